// Command grpc serves and calls gRPC on sockets that bypass the kernel:
//
//	go -C examples/libraries run ./grpc -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1
//
// is a server; another one with -to is its client. With -lab it makes a private
// network, and is both there, against the kernel's sockets:
//
//	go -C examples/libraries run ./grpc -lab
//
// The service is the one that gRPC's implementations are tested with, so that
// this needs no protocol compiler.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

var program = demo.Program{Name: "grpc", Port: 50051, Serve: serve, Use: use}

func main() { demo.Main(program) }

// service echoes payloads.
type service struct {
	pb.UnimplementedTestServiceServer
}

// UnaryCall answers with what it is given.
func (service) UnaryCall(_ context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return &pb.SimpleResponse{Payload: in.GetPayload()}, nil
}

// FullDuplexCall answers with what it is given, message by message.
func (service) FullDuplexCall(s pb.TestService_FullDuplexCallServer) error {
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

// serve is an ordinary gRPC server, but for where its listener comes from.
func serve(h demo.Host, address string) (stop func() error, err error) {
	l, err := h.Listen("tcp", address) // instead of net.Listen
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, service{})
	go srv.Serve(l) //nolint:errcheck // nil after Stop
	return func() error { srv.Stop(); return nil }, nil
}

// connect is an ordinary gRPC client, but for what it dials with.
func connect(h demo.Host, address string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return h.DialContext(ctx, "tcp", address) // instead of net.Dialer's
		}),
	}, more...)...)
}

const messages = 500

// use makes calls, and exchanges messages of 1 byte to 16 KB on a stream.
func use(ctx context.Context, h demo.Host, address string) (did string, err error) {
	conn, err := connect(h, address)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	client := pb.NewTestServiceClient(conn)
	text := demo.Bytes(1, 16<<10)
	part := func(i int) *pb.Payload { return &pb.Payload{Body: text[:1+i*i%len(text)]} }

	for i := range messages {
		out, err := client.UnaryCall(ctx, &pb.SimpleRequest{Payload: part(i)})
		if err != nil {
			return "", err
		}
		if !bytes.Equal(out.GetPayload().GetBody(), part(i).Body) {
			return "", fmt.Errorf("answer %d is not the request", i)
		}
	}
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		return "", err
	}
	sent := make(chan error, 1)
	go func() {
		for i := range messages {
			if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: part(i)}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	for i := range messages {
		out, err := stream.Recv()
		if err != nil {
			return "", err
		}
		if !bytes.Equal(out.GetPayload().GetBody(), part(i).Body) {
			return "", fmt.Errorf("message %d came back changed", i)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("at the end of the stream: %w", err)
	}
	return fmt.Sprintf("%d calls, %d messages on a stream, intact", messages, messages), <-sent
}
