package main

import "testing"

func TestABoxFindsItsOwnPlace(t *testing.T) {
	own := func(host string) bool { return host == "here" || host == "127.0.0.1" }
	for _, test := range []struct {
		listen    string
		addresses []string
		want      int
	}{
		{":9601", []string{"a:9601", "here:9601", "b:9601"}, 2},
		{"127.0.0.1:3", []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, 3},
		{":9601", []string{"a:9601", "b:9601"}, 0},
		{":9601", []string{"here:9601", "127.0.0.1:9601"}, 0},
		{":9602", []string{"here:9601"}, 0},
	} {
		got, err := ownPlace(test.addresses, test.listen, own)
		if got != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%v, listening on %s: %d, %v", test.addresses, test.listen, got, err)
		}
	}
}
