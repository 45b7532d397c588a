// A map that equals a domain and follows what anybody writes to it: neardict's dict, in Go.
package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "neardict.test/languages/neardictv1"
)

const (
	pingEvery = time.Second
	trust     = 3 * pingEvery
)

// Mirror holds the entries of a domain.
type Mirror struct {
	target, domain string

	mutex   sync.Mutex
	entries map[string]*pb.Entry
	// Up to where all changes have been seen; 0 if the domain has to be listed.
	revision uint64
	// Whether every change is being sent, and whether the service itself is sure of its engine.
	live, certain bool
	trustedUntil  time.Time
	// When each ping that has not been answered was sent.
	pings map[uint64]time.Time
	ping  uint64
}

// Follow returns a mirror that follows the domain until the context ends.
func Follow(ctx context.Context, target, domain string) *Mirror {
	m := &Mirror{target: target, domain: domain, entries: map[string]*pb.Entry{}, certain: true}
	go func() {
		for ctx.Err() == nil {
			// Whatever ended it, some change may not have been seen: only a new stream mends that.
			_ = m.stream(ctx)
			m.mutex.Lock()
			m.live, m.trustedUntil = false, time.Time{}
			m.mutex.Unlock()
			time.Sleep(time.Duration(rand.Int64N(int64(pingEvery))))
		}
	}()
	return m
}

// Fresh tells whether Get answers with what is stored, or was 3 seconds ago at most. If not, ask the service.
func (m *Mirror) Fresh() bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.live && m.certain && time.Now().Before(m.trustedUntil)
}

// Get returns the entry, or nil.
func (m *Mirror) Get(key string) *pb.Entry {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.entries[key]
}

// Keys returns the keys of the domain.
func (m *Mirror) Keys() []string {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	keys := make([]string, 0, len(m.entries))
	for key := range m.entries {
		keys = append(keys, key)
	}
	return keys
}

func (m *Mirror) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A connection of its own for each stream: one that has gone silent is given up with it.
	connection, err := grpc.NewClient(m.target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pb.NewStorageServiceClient(connection)
	stream, err := client.Watch(ctx)
	if err != nil {
		return err
	}
	// gRPC allows one sender at a time.
	requests := make(chan *pb.WatchRequest, 8)
	go send(ctx, cancel, stream, requests)
	go m.keepAsking(ctx, cancel, requests)
	requests <- m.subscribe()
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := m.take(ctx, client, message, requests); err != nil {
			return err
		}
	}
}

func send(
	ctx context.Context, cancel func(), stream pb.StorageService_WatchClient, requests <-chan *pb.WatchRequest,
) {
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case request := <-requests:
			if stream.Send(request) != nil {
				return
			}
		}
	}
}

// keepAsking sends a ping each second, and gives the stream up when nobody answers.
func (m *Mirror) keepAsking(ctx context.Context, cancel func(), requests chan<- *pb.WatchRequest) {
	defer cancel()
	m.forgetPings()
	for {
		m.mutex.Lock()
		for _, sent := range m.pings {
			if time.Since(sent) > 2*trust {
				m.mutex.Unlock()
				return
			}
		}
		m.ping++
		number := m.ping
		m.pings[number] = time.Now()
		m.mutex.Unlock()
		ping := &pb.WatchRequest{Request: &pb.WatchRequest_Ping{Ping: &pb.Ping{Number: number}}}
		select {
		case <-ctx.Done():
			return
		case requests <- ping:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pingEvery):
		}
	}
}

// forgetPings makes sure that what was asked before does not vouch for what is read from now on.
func (m *Mirror) forgetPings() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.pings, m.trustedUntil = map[uint64]time.Time{}, time.Time{}
}

func (m *Mirror) subscribe() *pb.WatchRequest {
	return &pb.WatchRequest{Request: &pb.WatchRequest_Subscribe{
		Subscribe: &pb.Subscribe{Domain: m.domain, FromRevision: m.revision},
	}}
}

func (m *Mirror) take(
	ctx context.Context, client pb.StorageServiceClient, message *pb.WatchResponse, requests chan<- *pb.WatchRequest,
) error {
	switch response := message.Response.(type) {
	case *pb.WatchResponse_Subscribed:
		if !response.Subscribed.Complete {
			if err := m.list(ctx, client); err != nil {
				return err
			}
			m.forgetPings()
		}
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.revision, m.live = max(response.Subscribed.Revision, 1), true
	case *pb.WatchResponse_Changes:
		for _, change := range response.Changes.Changes {
			if err := m.apply(ctx, client, change); err != nil {
				return err
			}
		}
		if m.revision > 0 {
			m.revision = response.Changes.Revision
		}
	case *pb.WatchResponse_Heartbeat:
		m.vouched(response.Heartbeat)
	case *pb.WatchResponse_Reset_, *pb.WatchResponse_Rejected:
		m.mutex.Lock()
		m.live, m.revision = false, 0
		m.mutex.Unlock()
		if message.GetRejected() != nil {
			time.Sleep(pingEvery)
		}
		requests <- m.subscribe()
	}
	return nil
}

func (m *Mirror) vouched(heartbeat *pb.Heartbeat) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	sent, found := m.pings[heartbeat.Ping]
	if !found {
		return
	}
	for number := range m.pings {
		if number <= heartbeat.Ping {
			delete(m.pings, number)
		}
	}
	m.trustedUntil = sent.Add(trust)
	m.certain = !slices.Contains(heartbeat.UncertainDomains, m.domain)
}

func (m *Mirror) list(ctx context.Context, client pb.StorageServiceClient) error {
	listing, err := client.AllKeys(ctx, &pb.AllKeysRequest{Domain: m.domain, IncludeEntries: true})
	if err != nil {
		return err
	}
	entries := map[string]*pb.Entry{}
	for {
		page, err := listing.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for _, entry := range page.Entries {
			entries[entry.Key] = entry
		}
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.entries = entries
	return nil
}

func (m *Mirror) apply(ctx context.Context, client pb.StorageServiceClient, change *pb.Change) error {
	if held := m.Get(change.Key); held != nil && change.Revision <= held.Revision {
		return nil
	}
	var entry *pb.Entry
	if change.Kind == pb.Change_KIND_SET {
		entry = &pb.Entry{Key: change.Key, Revision: change.Revision, Value: change.Value}
		if change.Value == nil { // too large to come along
			answer, err := client.GetValue(ctx, &pb.GetValueRequest{Domain: m.domain, Key: change.Key})
			if err != nil {
				return err
			}
			entry = answer.Entry
		}
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if entry == nil {
		delete(m.entries, change.Key)
	} else {
		m.entries[change.Key] = entry
	}
	return nil
}
