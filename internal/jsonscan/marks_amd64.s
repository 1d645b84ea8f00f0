#include "textflag.h"

// Sixteen times 0x1f, the highest control character, the quotation mark, and
// the reverse solidus.
DATA controls<>+0(SB)/8, $0x1f1f1f1f1f1f1f1f
DATA controls<>+8(SB)/8, $0x1f1f1f1f1f1f1f1f
GLOBL controls<>(SB), RODATA|NOPTR, $16
DATA quotes<>+0(SB)/8, $0x2222222222222222
DATA quotes<>+8(SB)/8, $0x2222222222222222
GLOBL quotes<>(SB), RODATA|NOPTR, $16
DATA slashes<>+0(SB)/8, $0x5c5c5c5c5c5c5c5c
DATA slashes<>+8(SB)/8, $0x5c5c5c5c5c5c5c5c
GLOBL slashes<>(SB), RODATA|NOPTR, $16

// MARK leaves in the low 16 bits of mask one bit for each byte at off(AX) that
// is not plain. The minimum of a byte and 0x1f is the byte itself if that is a
// control character; PMOVMSKB takes the highest bits, so bytes beyond ASCII
// mark themselves.
#define MARK(off, mask) \
	MOVOU    off(AX), X0 \
	MOVO     X0, X1      \
	MOVO     X0, X2      \
	MOVO     X0, X3      \
	PMINUB   X13, X1     \
	PCMPEQB  X0, X1      \
	PCMPEQB  X14, X2     \
	PCMPEQB  X15, X3     \
	POR      X1, X0      \
	POR      X3, X2      \
	POR      X2, X0      \
	PMOVMSKB X0, mask

// func marks(block *[64]byte) uint64
TEXT ·marks(SB), NOSPLIT, $0-16
	MOVQ  block+0(FP), AX
	MOVOU controls<>(SB), X13
	MOVOU quotes<>(SB), X14
	MOVOU slashes<>(SB), X15
	MARK(0, BX)
	MARK(16, CX)
	MARK(32, DX)
	MARK(48, DI)
	SHLQ  $16, CX
	SHLQ  $32, DX
	SHLQ  $48, DI
	ORQ   CX, BX
	ORQ   DI, DX
	ORQ   DX, BX
	MOVQ  BX, ret+8(FP)
	RET

// func prefetch(p *byte, n int)
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), BX
	ADDQ AX, BX
line:
	PREFETCHT0 (AX)
	ADDQ $64, AX
	CMPQ AX, BX
	JLT  line
	RET
