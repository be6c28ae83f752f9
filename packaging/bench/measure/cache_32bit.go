//go:build !(amd64 || arm64 || riscv64)

package measure

// fadviseCall: 32-bit machines split the offsets over registers, each in its own way; there drop_caches is needed.
const fadviseCall uintptr = 0
