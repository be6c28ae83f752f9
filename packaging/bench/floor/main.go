package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: floor produce|fetch|echo [flags]")
	}
	flags := flag.NewFlagSet("floor "+args[0], flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on")
	file := flags.String("file", "", "produce: file to write; fetch: file to send")
	topic := flags.String("topic", "bench", "topic that the client names")
	batch := flags.Int("batch", 64<<10, "fetch: bytes of each batch in the file, all of the same size with one record each")
	chunk := flags.Int("chunk", 64<<10, "fetch: bytes of a response, a multiple of batch")
	reply := flags.Int("reply", 0, "echo: bytes of a response frame")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var serve func(*net.TCPConn) error
	var err error
	switch args[0] {
	case "produce":
		serve, err = newCommitter(*file, *topic)
	case "fetch":
		serve, err = newSender(*file, *topic, *batch, *chunk)
	case "echo":
		serve, err = newEcho(*reply)
	default:
		err = fmt.Errorf("unknown floor %q", args[0])
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go accept(l, serve)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func accept(l net.Listener, serve func(*net.TCPConn) error) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if err := serve(c.(*net.TCPConn)); err != nil && err != io.EOF {
				fmt.Fprintln(os.Stderr, "floor:", err)
			}
		}()
	}
}
