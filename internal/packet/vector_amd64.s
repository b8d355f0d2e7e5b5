//go:build !purego

#include "textflag.h"

// A turn takes 64 bytes. Each 64-bit lane is split into its two 32-bit words,
// which are added to 64-bit lanes of their own: no carry can be lost, reduction
// included, in less than 2^28 turns, and the four sums (Y4-Y7) do not wait for
// each other, as scalar code waits for its one carry flag.

#define TURN(a, b) \
	VPAND  a, Y0, Y8 \
	VPSRLQ $32, a, Y9 \
	VPAND  b, Y0, Y10 \
	VPSRLQ $32, b, Y11 \
	VPADDQ Y8, Y4, Y4 \
	VPADDQ Y9, Y5, Y5 \
	VPADDQ Y10, Y6, Y6 \
	VPADDQ Y11, Y7, Y7

#define CLEAR \
	VPCMPEQD Y0, Y0, Y0 \
	VPSRLQ   $32, Y0, Y0 \
	VPXOR    Y4, Y4, Y4 \
	VPXOR    Y5, Y5, Y5 \
	VPXOR    Y6, Y6, Y6 \
	VPXOR    Y7, Y7, Y7

// REDUCE adds up all lanes into AX.
#define REDUCE \
	VPADDQ       Y5, Y4, Y4 \
	VPADDQ       Y7, Y6, Y6 \
	VPADDQ       Y6, Y4, Y4 \
	VEXTRACTI128 $1, Y4, X5 \
	VPADDQ       X5, X4, X4 \
	VPSRLDQ      $8, X4, X5 \
	VPADDQ       X5, X4, X4 \
	VMOVQ        X4, AX \
	VZEROUPPER

// func sumVector(p *byte, n int) uint64
TEXT ·sumVector(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	CLEAR

sumTurn:
	VMOVDQU (SI), Y1
	VMOVDQU 32(SI), Y2
	TURN(Y1, Y2)
	ADDQ    $64, SI
	SUBQ    $64, CX
	JNZ     sumTurn
	REDUCE
	MOVQ    AX, ret+16(FP)
	RET

// func copySumVector(dst, src *byte, n int) uint64
TEXT ·copySumVector(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	CLEAR

copyTurn:
	VMOVDQU (SI), Y1
	VMOVDQU 32(SI), Y2
	VMOVDQU Y1, (DI)
	VMOVDQU Y2, 32(DI)
	TURN(Y1, Y2)
	ADDQ    $64, SI
	ADDQ    $64, DI
	SUBQ    $64, CX
	JNZ     copyTurn
	REDUCE
	MOVQ    AX, ret+24(FP)
	RET
