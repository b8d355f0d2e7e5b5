package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
)

// wide is the example's service, with streams one way and with calls that take
// until the caller loses patience.
type wide struct {
	service
	arrived, gone chan struct{}
}

// EmptyCall never answers.
func (w wide) EmptyCall(ctx context.Context, _ *pb.Empty) (*pb.Empty, error) {
	select {
	case w.arrived <- struct{}{}:
	case <-ctx.Done(): // the caller does not wait for it any more
		return nil, ctx.Err()
	}
	<-ctx.Done()
	w.gone <- struct{}{}
	return nil, ctx.Err()
}

// StreamingInputCall adds up what it is sent.
func (wide) StreamingInputCall(s pb.TestService_StreamingInputCallServer) error {
	var sum int32
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: sum})
		}
		if err != nil {
			return err
		}
		sum += int32(len(in.GetPayload().GetBody()))
	}
}

// StreamingOutputCall sends messages of the lengths it is told.
func (wide) StreamingOutputCall(in *pb.StreamingOutputCallRequest, s pb.TestService_StreamingOutputCallServer) error {
	for i, p := range in.GetResponseParameters() {
		m := &pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: demo.Bytes(byte(i), int(p.GetSize()))}}
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// start serves on one host of a pair, and returns a connection from the other.
func start(t *testing.T, pair demo.Pair, so []grpc.ServerOption, co ...grpc.DialOption) (wide, *grpc.Server, *grpc.ClientConn) {
	t.Helper()
	l, err := pair.Server.Listen("tcp", ":50051")
	if err != nil {
		t.Fatal(err)
	}
	w := wide{arrived: make(chan struct{}), gone: make(chan struct{})}
	srv := grpc.NewServer(so...)
	pb.RegisterTestServiceServer(srv, w)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	conn, err := connect(pair.Client, net.JoinHostPort(pair.Addr.String(), "50051"), co...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		srv.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve returns %v", err)
		}
	})
	return w, srv, conn
}

// TestStreams sends many messages one way, with little room, so that both sides
// wait for each other.
func TestStreams(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		_, _, conn := start(t, pair, nil)
		c := pb.NewTestServiceClient(conn)
		in, err := c.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var sum int32
		request := &pb.StreamingOutputCallRequest{}
		for i := range int32(300) {
			size := i * i % 70001
			sum += size
			if err := in.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, size)}}); err != nil {
				t.Fatal(err)
			}
			request.ResponseParameters = append(request.ResponseParameters, &pb.ResponseParameters{Size: size})
		}
		if r, err := in.CloseAndRecv(); err != nil || r.GetAggregatedPayloadSize() != sum {
			t.Errorf("%v, %v, want %d", r, err, sum)
		}
		out, err := c.StreamingOutputCall(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range request.GetResponseParameters() {
			m, err := out.Recv()
			if err != nil || !bytes.Equal(m.GetPayload().GetBody(), demo.Bytes(byte(i), int(p.GetSize()))) {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if _, err := out.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	})
}

// TestDeadline ends a call when its time is over, or the caller says so, also at
// the server.
func TestDeadline(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		w, _, conn := start(t, pair, nil)
		c := pb.NewTestServiceClient(conn)
		if _, err := c.UnaryCall(ctx, &pb.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		answer := make(chan error, 1)
		call := func(ctx context.Context) {
			_, err := c.EmptyCall(ctx, &pb.Empty{})
			answer <- err
		}
		go call(short)
		select {
		case <-w.arrived:
			<-w.gone
		case <-short.Done(): // a slow machine: the call came to nothing before
		}
		if err := <-answer; status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("deadline: %v", err)
		}
		canceled, cancel := context.WithCancel(ctx)
		go call(canceled)
		<-w.arrived
		cancel()
		<-w.gone
		if err := <-answer; status.Code(err) != codes.Canceled {
			t.Errorf("canceled: %v", err)
		}
	})
}

// TestLargeMessages has messages beyond any buffer on the way, many at a time,
// over TLS.
func TestLargeMessages(t *testing.T) {
	const length = 1 << 20
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		sc, cc, err := demo.TLS("h2")
		if err != nil {
			t.Fatal(err)
		}
		_, _, conn := start(t, pair, []grpc.ServerOption{grpc.Creds(credentials.NewTLS(sc))},
			grpc.WithTransportCredentials(credentials.NewTLS(cc)))
		c := pb.NewTestServiceClient(conn)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				text := demo.Bytes(byte(i), length)
				out, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: text}})
				if err == nil && !bytes.Equal(out.GetPayload().GetBody(), text) {
					err = fmt.Errorf("message %d came back changed", i)
				}
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	})
}

// TestRestart goes on with a server that was there before: it lets its calls
// finish, and another one takes its port.
func TestRestart(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		_, srv, conn := start(t, pair, nil)
		c := pb.NewTestServiceClient(conn)
		stream, err := c.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		turn := func() error {
			if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte("turn")}}); err != nil {
				return err
			}
			_, err := stream.Recv()
			return err
		}
		if err := turn(); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			srv.GracefulStop()
		}()
		if err := errors.Join(turn(), stream.CloseSend()); err != nil {
			t.Error(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		<-stopped
		stop, err := serve(pair.Server, ":50051")
		if err != nil {
			t.Fatal(err)
		}
		defer stop() //nolint:errcheck // always nil
		if _, err := c.UnaryCall(ctx, &pb.SimpleRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Errorf("after the restart: %v", err)
		}
	})
}
