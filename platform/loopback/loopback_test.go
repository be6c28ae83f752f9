package loopback

import (
	"net"
	"strconv"
	"testing"
)

// An address is given once, and can be taken.
func TestAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		address, err := Address()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < portMin || n >= portMax {
			t.Errorf("port %s is not below those of clients", port)
		}
	}
}
