package sys

// KernelTXBudget is how many descriptors one sendto sends in copy mode: TX_BATCH_SIZE in
// Linux net/xdp/xsk.c, until XDP_MAX_TX_SKB_BUDGET (6.17) changes it, to no less.
const KernelTXBudget = 32
