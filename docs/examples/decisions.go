// What a worker did last, and why:  go run decisions.go /run/forge-manager/elector/debug.sock
// Needs nothing but Go.  Frames and messages: docs/ipc.md.  Run it as the workers' user, or as root.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"os"
)

const question = "\x93\x02\xacDebugRequest\x82\xa4what\xa9decisions\xa8argument\xa0" // [2, "DebugRequest", {...}]

func main() {
	conn, err := net.Dial("unix", os.Args[1])
	check(err)
	_, err = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(question))), question...))
	check(err)
	raw, err := io.ReadAll(conn) // one answer, then the connection ends
	check(err)
	if len(raw) < 4 || int(binary.BigEndian.Uint32(raw)) != len(raw)-4 {
		log.Fatal("no answer: this user may not ask")
	}
	answer := (&reader{raw[4:]}).value().([]any) // [protocol, kind, body]
	body := answer[2].(map[any]any)
	if answer[0] != int64(2) || answer[1] != "DebugDecisions" {
		log.Fatalf("not answered: %v %v", answer[1], body["why"])
	}
	for _, each := range body["decisions"].([]any) {
		d := each.(map[any]any)
		fmt.Printf("%d %s %s: %q %q\n", d["at"], d["level"], d["event"], d["message"], d["fields"])
	}
}

type reader struct{ rest []byte }

func (r *reader) bytes(n uint64) []byte {
	taken := r.rest[:n] // panics on an answer that is cut short
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) number(size int) (n uint64) {
	for _, b := range r.bytes(uint64(size)) {
		n = n<<8 | uint64(b)
	}
	return
}

func (r *reader) value() any { // msgpack, as far as our messages use it
	switch t := r.number(1); {
	case t < 0x80:
		return int64(t)
	case t < 0x90:
		return r.entries(t & 15)
	case t < 0xa0:
		return r.list(t & 15)
	case t < 0xc0:
		return string(r.bytes(t & 31))
	case t == 0xc0:
		return nil
	case t == 0xc2 || t == 0xc3:
		return t == 0xc3
	case t == 0xcb:
		return math.Float64frombits(r.number(8))
	case t >= 0xcc && t <= 0xcf:
		return int64(r.number(1 << (t - 0xcc)))
	case t >= 0xd0 && t <= 0xd3:
		unused := 64 - 8<<(t-0xd0)
		return int64(r.number(1<<(t-0xd0))<<unused) >> unused
	case t >= 0xd9 && t <= 0xdb:
		return string(r.bytes(r.number(1 << (t - 0xd9))))
	case t == 0xdc:
		return r.list(r.number(2))
	case t == 0xde:
		return r.entries(r.number(2))
	case t >= 0xe0:
		return int64(int8(t))
	}
	panic("no message of ours")
}

func (r *reader) list(n uint64) (items []any) {
	for ; n > 0; n-- {
		items = append(items, r.value())
	}
	return
}

func (r *reader) entries(n uint64) map[any]any {
	found := map[any]any{}
	for ; n > 0; n-- {
		key := r.value()
		found[key] = r.value()
	}
	return found
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
