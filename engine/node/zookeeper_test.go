package node

import (
	"fmt"
	"io/fs"
	"testing"

	"cairn/engine/ensemble/zkserver"
	"cairn/engine/ensemble/zkserver/zoocfg"
)

// What a zoo.cfg says of throttles reaches the server.
func TestThrottlesOfAFile(t *testing.T) {
	for text, want := range map[string]string{
		"": "0 104857600 {0 1ms 1 -1ms 0.02 0.002 0 1 1} {0 0s false}",
		"largeRequestThreshold=7\nlargeRequestMaxBytes=8\nconnection_throttle_tokens=9\nrequest_throttle_max_requests=10\nthrottled_op_wait_time=11\n" +
			"request_stale_latency_check=true\n": "7 8 {9 1ms 1 -1ms 0.02 0.002 0 1 1} {10 11ms true}",
	} {
		f, err := zoocfg.Load(zoocfg.Source{File: "zoo.cfg", ReadFile: func(name string) ([]byte, error) {
			if name != "zoo.cfg" {
				return nil, fs.ErrNotExist
			}
			return []byte("dataDir=/d\n" + text), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		var c zkserver.Config
		zkserverFrom(&c, f)
		if got := fmt.Sprint(c.LargeRequestThreshold, c.LargeRequestBytesMax, c.ConnectionThrottle, c.RequestThrottle); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
