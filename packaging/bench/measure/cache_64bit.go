//go:build amd64 || arm64 || riscv64

package measure

import "syscall"

// fadviseCall takes descriptor, offset, length and advice in a register each.
const fadviseCall uintptr = syscall.SYS_FADVISE64
