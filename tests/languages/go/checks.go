package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "neardict.test/languages/neardictv1"
)

func absentKey(s *store) error {
	answer, err := s.get("nothing here")
	if err != nil {
		return err
	}
	if answer.Found || answer.Entry != nil {
		return fmt.Errorf("found %v, entry %v", answer.Found, answer.Entry)
	}
	return nil
}

func emptyListing(s *store) error {
	pages, err := s.list(&pb.AllKeysRequest{Domain: s.domain + ".empty"})
	if err != nil {
		return err
	}
	if len(pages) != 1 || len(pages[0].Keys) != 0 || len(pages[0].Entries) != 0 {
		return fmt.Errorf("%d messages: %v", len(pages), pages)
	}
	return nil
}

func setAndGet(s *store) error {
	text := `{"from":"go","text":"grüße 🎲","numbers":[1,2.5,-3e8],"yes":true}`
	written, err := s.set(&pb.SetValueRequest{Key: "greeting", Value: jsonValue(text)})
	if err != nil {
		return err
	}
	answer, err := s.get("greeting")
	if err != nil {
		return err
	}
	entry := answer.Entry
	if !answer.Found || entry.Key != "greeting" || entry.Value.GetJson() != text || entry.ExpireTime != nil {
		return fmt.Errorf("read %v", answer)
	}
	if entry.Revision != written.Revision || answer.DomainRevision < written.Revision {
		return fmt.Errorf("wrote revision %d, read %d in domain at %d", written.Revision, entry.Revision, answer.DomainRevision)
	}
	return nil
}

func revisionFitsDouble(s *store) error {
	first, err := s.set(&pb.SetValueRequest{Key: "counted", Value: jsonValue("1")})
	if err != nil {
		return err
	}
	second, err := s.set(&pb.SetValueRequest{Key: "counted", Value: jsonValue("2")})
	if err != nil {
		return err
	}
	for _, revision := range []uint64{first.Revision, second.Revision} {
		if revision == 0 || revision >= 1<<53 || uint64(float64(revision)) != revision {
			return fmt.Errorf("revision %d", revision)
		}
	}
	if !(float64(first.Revision) < float64(second.Revision)) {
		return fmt.Errorf("revision %d, then %d", first.Revision, second.Revision)
	}
	return nil
}

func ifAbsent(s *store) error {
	present, err := s.get("greeting")
	if err != nil {
		return err
	}
	_, err = s.set(&pb.SetValueRequest{
		Key: "greeting", Value: jsonValue("0"), Condition: &pb.SetValueRequest_IfAbsent{IfAbsent: true},
	})
	info, err := refusal(err, codes.Aborted, "CONDITION_FAILED")
	if err != nil {
		return err
	}
	if current := info.Metadata["current_revision"]; current != fmt.Sprint(present.Entry.Revision) {
		return fmt.Errorf("current_revision is %q, the entry's is %d", current, present.Entry.Revision)
	}
	return nil
}

func ifRevision(s *store) error {
	first, err := s.set(&pb.SetValueRequest{
		Key: "conditional", Value: jsonValue("1"), Condition: &pb.SetValueRequest_IfAbsent{IfAbsent: true},
	})
	if err != nil {
		return err
	}
	second := &pb.SetValueRequest{
		Key: "conditional", Value: jsonValue("2"), Condition: &pb.SetValueRequest_IfRevision{IfRevision: first.Revision},
	}
	if _, err := s.set(second); err != nil {
		return err
	}
	_, err = s.set(second)
	_, err = refusal(err, codes.Aborted, "CONDITION_FAILED")
	return err
}

func bigNumber(s *store) error {
	return s.roundTrip("big number", jsonValue(`{"id":9007199254740993,"pi":3.14159265358979323846}`))
}

func null(s *store) error {
	return s.roundTrip("null", jsonValue("null"))
}

func rawBytes(s *store) error {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	if err := s.roundTrip("bytes", rawValue(every)); err != nil {
		return err
	}
	return s.roundTrip("no bytes", rawValue([]byte{}))
}

func largestValue(s *store) error {
	return s.roundTrip("largest", rawValue(bytes.Repeat([]byte{0xff}, 1<<20)))
}

func tooLarge(s *store) error {
	_, err := s.set(&pb.SetValueRequest{Key: "too large", Value: rawValue(make([]byte, 1<<20+1))})
	info, err := refusal(err, codes.ResourceExhausted, "VALUE_TOO_LARGE")
	if err != nil {
		return err
	}
	if limit := info.Metadata["limit"]; limit != "1048576" {
		return fmt.Errorf("the limit in the details is %q", limit)
	}
	answer, err := s.get("too large")
	if err != nil {
		return err
	}
	if answer.Found {
		return errors.New("the refused value was stored")
	}
	return nil
}

func emptyKey(s *store) error {
	_, err := s.get("")
	_, err = refusal(err, codes.InvalidArgument, "INVALID_KEY")
	return err
}

func ttl(s *store) error {
	written, err := s.set(&pb.SetValueRequest{Key: "session", Value: jsonValue("{}"), Ttl: durationpb.New(time.Hour)})
	if err != nil {
		return err
	}
	answer, err := s.get("session")
	if err != nil {
		return err
	}
	expiry := written.ExpireTime.AsTime()
	if !answer.Found || !answer.Entry.ExpireTime.AsTime().Equal(expiry) {
		return fmt.Errorf("set answered %v, get %v", expiry, answer)
	}
	if left := time.Until(expiry); left < 55*time.Minute || left > 61*time.Minute {
		return fmt.Errorf("an hour to live became %v", left)
	}
	return nil
}

func expired(s *store) error {
	brief := durationpb.New(20 * time.Millisecond)
	if _, err := s.set(&pb.SetValueRequest{Key: "brief", Value: jsonValue("1"), Ttl: brief}); err != nil {
		return err
	}
	for {
		answer, err := s.get("brief") // the context of the program bounds the wait
		if err != nil || !answer.Found {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func prefix(s *store) error {
	wanted := []string{"ключ/один", "ключ/два", "ключ/🎲🎲", "ключ/"}
	for _, key := range append(wanted, "Ключ/один", "клю", "schlüssel") {
		if _, err := s.set(&pb.SetValueRequest{Key: key, Value: jsonValue("0")}); err != nil {
			return err
		}
	}
	pages, err := s.list(&pb.AllKeysRequest{Domain: s.domain, Prefix: "ключ/"})
	if err != nil {
		return err
	}
	var found []string
	for _, page := range pages {
		found = append(found, page.Keys...)
	}
	slices.Sort(wanted)
	slices.Sort(found)
	if !slices.Equal(wanted, found) {
		return fmt.Errorf("listed %q", found)
	}
	return nil
}

func entries(s *store) error {
	pages, err := s.list(&pb.AllKeysRequest{Domain: s.domain, Prefix: "greeting", IncludeEntries: true})
	if err != nil {
		return err
	}
	var found []*pb.Entry
	for _, page := range pages {
		found = append(found, page.Entries...)
	}
	if len(found) != 1 || found[0].Key != "greeting" || !strings.Contains(found[0].Value.GetJson(), `"go"`) {
		return fmt.Errorf("listed %v", found)
	}
	if at := pages[0].DomainRevision; at < found[0].Revision {
		return fmt.Errorf("the listing is at revision %d, the entry at %d", at, found[0].Revision)
	}
	return nil
}

func deleteTwice(s *store) error {
	for _, wanted := range []bool{true, false} {
		answer, err := s.delete(&pb.DeleteKeyRequest{Key: "counted"})
		if err != nil {
			return err
		}
		if answer.Existed != wanted {
			return fmt.Errorf("existed is %v", answer.Existed)
		}
	}
	answer, err := s.get("counted")
	if err == nil && answer.Found {
		err = errors.New("the deleted key is found")
	}
	return err
}

func staleDelete(s *store) error {
	_, err := s.delete(&pb.DeleteKeyRequest{
		Key: "greeting", Condition: &pb.DeleteKeyRequest_IfRevision{IfRevision: 1},
	})
	_, err = refusal(err, codes.Aborted, "CONDITION_FAILED")
	return err
}

func executed(s *store) error {
	var operations []*pb.Operation
	for count := range 1000 {
		operations = append(operations, setOperation("executed", strconv.Itoa(count)), getOperation("executed"))
	}
	results, err := s.execute(append(operations, getOperation("")))
	if err != nil {
		return err
	}
	for count := range 1000 {
		written, read := results[2*count].GetSetValue(), results[2*count+1].GetGetValue()
		if read.GetEntry().GetValue().GetJson() != strconv.Itoa(count) || read.Entry.Revision != written.GetRevision() {
			return fmt.Errorf("after write %d: %v", count, read)
		}
	}
	failed := results[2000].GetError()
	if failed.GetCode() != uint32(codes.InvalidArgument) || failed.GetReason() != "INVALID_KEY" {
		return fmt.Errorf("an empty key: %v", results[2000])
	}
	return nil
}

func serverInfo(s *store) error {
	info, err := s.client.GetServerInfo(s.ctx, &pb.GetServerInfoRequest{})
	if err != nil {
		return err
	}
	if info.Version == "" || info.Limits.GetMaxValueBytes() != 1<<20 || len(info.Backends) == 0 {
		return fmt.Errorf("told %v", info)
	}
	return nil
}
