// What a worker did last, and why:  go run decisions.go /run/forge-manager/elector/debug.sock
// Needs nothing but Go.  Frames and messages: docs/ipc.md.  Run it as the worker's user, or as root.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"os"
)

const question = "\x93\x02\xacDebugRequest\x82\xa4what\xa9decisions\xa8argument\xa0" // [2, "DebugRequest", {...}]

func main() {
	conn, err := net.Dial("unix", os.Args[1])
	if err == nil {
		_, err = conn.Write(append([]byte{0, 0, 0, byte(len(question))}, question...))
	}
	if err != nil {
		log.Fatal(err)
	}
	in := bufio.NewReader(conn)
	number(in, 4) // the length of the only frame
	answer := value(in).([]any)
	if answer[0] != uint64(2) || answer[1] != "DebugDecisions" {
		log.Fatal(answer...)
	}
	for _, each := range answer[2].(map[any]any)["decisions"].([]any) {
		d := each.(map[any]any)
		fmt.Printf("%d %s %s: %q %q\n", d["at"], d["level"], d["event"], d["message"], d["fields"])
	}
}

// value reads what an answer consists of in msgpack: natural numbers, strings, arrays, maps.
func value(in io.Reader) any {
	switch kind := number(in, 1); {
	case kind < 0x80:
		return kind
	case kind < 0x90:
		return pairs(in, kind&15)
	case kind < 0xa0:
		return items(in, kind&15)
	case kind < 0xc0:
		return string(take(in, kind&31))
	case kind >= 0xcc && kind <= 0xcf:
		return number(in, 1<<(kind-0xcc))
	case kind >= 0xd9 && kind <= 0xda:
		return string(take(in, number(in, 1<<(kind-0xd9))))
	case kind == 0xdc:
		return items(in, number(in, 2))
	case kind == 0xde:
		return pairs(in, number(in, 2))
	}
	panic("not a message of ours")
}

func take(in io.Reader, count uint64) []byte {
	bytes := make([]byte, count)
	if _, err := io.ReadFull(in, bytes); err != nil {
		log.Fatal("no answer; may this user ask? ", err)
	}
	return bytes
}

func number(in io.Reader, size uint64) (n uint64) {
	for _, b := range take(in, size) {
		n = n<<8 | uint64(b)
	}
	return
}

func items(in io.Reader, count uint64) (all []any) {
	for ; count > 0; count-- {
		all = append(all, value(in))
	}
	return
}

func pairs(in io.Reader, count uint64) map[any]any {
	all := map[any]any{}
	for ; count > 0; count-- {
		key := value(in)
		all[key] = value(in)
	}
	return all
}
