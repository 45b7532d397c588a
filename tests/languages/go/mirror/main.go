package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "neardict.test/languages/neardictv1"
)

const deadline = 10 * time.Second

// Usage: mirror TARGET DOMAIN. Takes lines `show`, `set KEY JSON` and `delete KEY`, and answers each with a
// line of JSON; `show` asks nobody.
func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: mirror TARGET DOMAIN")
		os.Exit(2)
	}
	target, domain := os.Args[1], os.Args[2]
	mirror := Follow(context.Background(), target, domain)
	connection, err := grpc.NewClient(
		target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A service that restarts is waited for.
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	client := pb.NewStorageServiceClient(connection)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := do(client, mirror, domain, strings.SplitN(lines.Text(), " ", 3))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		text, _ := json.Marshal(answer)
		fmt.Println(string(text))
	}
}

func do(client pb.StorageServiceClient, mirror *Mirror, domain string, words []string) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	switch words[0] {
	case "set":
		value := &pb.Value{Kind: &pb.Value_Json{Json: words[2]}}
		return client.SetValue(ctx, &pb.SetValueRequest{Domain: domain, Key: words[1], Value: value})
	case "delete":
		return client.DeleteKey(ctx, &pb.DeleteKeyRequest{Domain: domain, Key: words[1]})
	}
	entries := map[string]json.RawMessage{}
	for _, key := range mirror.Keys() {
		if entry := mirror.Get(key); entry != nil {
			entries[key] = json.RawMessage(entry.Value.GetJson())
		}
	}
	return map[string]any{"fresh": mirror.Fresh(), "entries": entries}, nil
}
