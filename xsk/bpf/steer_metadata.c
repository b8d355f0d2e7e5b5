// Steering with metadata: steer.c, and before each frame that is redirected what the
// device knows of it. To be loaded bound to the device (BPF_F_XDP_DEV_BOUND_ONLY):
// the kernel then puts its driver's functions in the place of those that
// add_metadata calls.

#include "abi.h"
#include "metadata.h"

// Set at load, and constant to the verifier, which leaves out what is not wanted.
volatile const u32 metadata_wanted;
volatile const u64 metadata_marker;

// The kernel has those functions for programs under the GPL only. This file,
// steer.c, abi.h and metadata.h are under version 2 of that, too, at your choice.
#define REDIRECTED(ctx)   add_metadata(ctx, metadata_wanted, metadata_marker)
#define LICENCE           "GPL"

#include "steer.c"
