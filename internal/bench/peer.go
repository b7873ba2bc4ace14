package main

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// peer is this program again in a process of its own, which is pinned to a core. It reads
// gob values from its standard input and writes its answers to its standard output.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *gob.Encoder
	dec *gob.Decoder
}

func startPeer(ctx context.Context, cpu int, command string) (*peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := pin(cpu, self, command)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &peer{cmd: cmd, in: in, enc: gob.NewEncoder(in), dec: gob.NewDecoder(out)}, nil
}

// call sends one value and reads one.
func (p *peer) call(question, answer any) error {
	if err := p.enc.Encode(question); err != nil {
		return err
	}
	if err := p.dec.Decode(answer); err != nil {
		return fmt.Errorf("the process ended: %w", err)
	}
	return nil
}

// stop ends the process by the end of its input.
func (p *peer) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}
