package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "neardict.test/languages/neardictv1"
)

// The operations on one domain.
type store struct {
	ctx    context.Context
	client pb.StorageServiceClient
	domain string
}

func (s *store) get(key string) (*pb.GetValueResponse, error) {
	return s.client.GetValue(s.ctx, &pb.GetValueRequest{Domain: s.domain, Key: key})
}

func (s *store) set(request *pb.SetValueRequest) (*pb.SetValueResponse, error) {
	request.Domain = s.domain
	return s.client.SetValue(s.ctx, request)
}

func (s *store) delete(request *pb.DeleteKeyRequest) (*pb.DeleteKeyResponse, error) {
	request.Domain = s.domain
	return s.client.DeleteKey(s.ctx, request)
}

func (s *store) list(request *pb.AllKeysRequest) ([]*pb.AllKeysResponse, error) {
	stream, err := s.client.AllKeys(s.ctx, request)
	if err != nil {
		return nil, err
	}
	var pages []*pb.AllKeysResponse
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return pages, nil
		}
		if err != nil {
			return nil, err
		}
		pages = append(pages, page)
	}
}

// execute carries out many operations on one stream, and returns their results in the same order. Were they more
// than 8,192, results would have to be received while the rest is sent.
func (s *store) execute(operations []*pb.Operation) ([]*pb.OperationResult, error) {
	stream, err := s.client.Execute(s.ctx)
	if err != nil {
		return nil, err
	}
	for number, operation := range operations {
		operation.Number = uint64(number)
		if set := operation.GetSetValue(); set != nil {
			set.Domain = s.domain
		}
		if get := operation.GetGetValue(); get != nil {
			get.Domain = s.domain
		}
	}
	if err := errors.Join(stream.Send(&pb.ExecuteRequest{Operations: operations}), stream.CloseSend()); err != nil {
		return nil, err
	}
	results := make([]*pb.OperationResult, len(operations))
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return nil, err
		}
		for _, result := range answer.Results {
			results[result.Number] = result
		}
	}
}

func setOperation(key, text string) *pb.Operation {
	set := &pb.SetValueRequest{Key: key, Value: jsonValue(text)}
	return &pb.Operation{Operation: &pb.Operation_SetValue{SetValue: set}}
}

func getOperation(key string) *pb.Operation {
	return &pb.Operation{Operation: &pb.Operation_GetValue{GetValue: &pb.GetValueRequest{Key: key}}}
}

// roundTrip writes the value and tells how what is read differs from it.
func (s *store) roundTrip(key string, value *pb.Value) error {
	if _, err := s.set(&pb.SetValueRequest{Key: key, Value: value}); err != nil {
		return err
	}
	answer, err := s.get(key)
	if err != nil {
		return err
	}
	read := answer.GetEntry().GetValue()
	switch kind := value.Kind.(type) {
	case *pb.Value_Json:
		if got, ok := read.GetKind().(*pb.Value_Json); !ok || got.Json != kind.Json {
			return fmt.Errorf("wrote %s, read %v", kind.Json, read)
		}
	case *pb.Value_Raw:
		if got, ok := read.GetKind().(*pb.Value_Raw); !ok || !bytes.Equal(got.Raw, kind.Raw) {
			return fmt.Errorf("wrote %d bytes, read other ones", len(kind.Raw))
		}
	}
	return nil
}

func jsonValue(text string) *pb.Value {
	return &pb.Value{Kind: &pb.Value_Json{Json: text}}
}

func rawValue(data []byte) *pb.Value {
	return &pb.Value{Kind: &pb.Value_Raw{Raw: data}}
}

// refusal returns the details of the error, which must have this code and reason.
func refusal(err error, code codes.Code, reason string) (*errdetails.ErrorInfo, error) {
	if err == nil {
		return nil, fmt.Errorf("succeeded and not %v", code)
	}
	answer := status.Convert(err)
	if answer.Code() != code {
		return nil, fmt.Errorf("%v and not %v", err, code)
	}
	for _, detail := range answer.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			if info.Domain == "neardict" && info.Reason == reason {
				return info, nil
			}
			return nil, fmt.Errorf("reason %s of %s and not %s", info.Reason, info.Domain, reason)
		}
	}
	return nil, fmt.Errorf("%v without an ErrorInfo", err)
}
