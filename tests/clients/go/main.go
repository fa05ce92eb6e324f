// franz-go and sarama against a running daemon: produce with every codec, read from the start, an offset and a time; groups (groups.go).
// Usage: goclients HOST:PORT
package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	passed, failed int
	now            = time.Now().Truncate(time.Millisecond)
	large          = bytes.Repeat([]byte("0123456789abcdef"), 55_000)
)

var counting sync.Mutex

func check(what string, isRight bool) {
	counting.Lock()
	defer counting.Unlock()
	if isRight {
		passed++
		return
	}
	failed++
	fmt.Println("failed:", what)
}

func must(what string, err error) {
	if err != nil {
		fmt.Println("failed:", what, err)
		fmt.Printf("go: %d passed, %d failed\n", passed, failed+1)
		os.Exit(1)
	}
}

func franz(address, codec string, compression kgo.CompressionCodec) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mark := "franz-go " + codec
	topic := fmt.Sprintf("fz-%s-%06d", codec, rand.Intn(1_000_000))
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ProducerBatchCompression(compression),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation())
	must(mark, err)
	defer client.Close()
	// Idempotent and acks=all: the client's default.
	sent := []*kgo.Record{
		{Topic: topic, Value: []byte("x"), Timestamp: now},
		{Topic: topic, Key: []byte("k"), Timestamp: now.Add(10 * time.Millisecond)},
		{Topic: topic, Key: []byte{}, Value: []byte{}, Timestamp: now.Add(20 * time.Millisecond), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "n"}}},
		{Topic: topic, Key: []byte("large"), Value: large, Timestamp: now.Add(30 * time.Millisecond)},
	}
	for n, record := range sent {
		result, err := client.ProduceSync(ctx, record).First()
		must(mark, err)
		check(fmt.Sprintf("%s: offset %d", mark, n), result.Offset == int64(n))
	}
	for n := 0; n < 3000; n++ {
		client.Produce(ctx, &kgo.Record{Topic: topic, Partition: 1, Value: []byte(fmt.Sprint(n))}, nil)
	}
	must(mark, client.Flush(ctx))
	read := func(partition int32, from kgo.Offset, count int) []*kgo.Record {
		reader, err := kgo.NewClient(kgo.SeedBrokers(address),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: from}}))
		must(mark, err)
		defer reader.Close()
		var got []*kgo.Record
		for len(got) < count {
			fetches := reader.PollFetches(ctx)
			must(mark, fetches.Err())
			got = append(got, fetches.Records()...)
		}
		return got
	}
	got := read(0, kgo.NewOffset().AtStart(), len(sent))
	isSame := len(got) == len(sent)
	for n := 0; isSame && n < len(sent); n++ {
		isSame = bytes.Equal(got[n].Key, sent[n].Key) && bytes.Equal(got[n].Value, sent[n].Value) && got[n].Timestamp.Equal(sent[n].Timestamp)
	}
	check(mark+": keys, values, times", isSame)
	check(mark+": null and empty", got[1].Value == nil && got[0].Key == nil && got[2].Value != nil)
	check(mark+": headers", len(got[2].Headers) == 2 && got[2].Headers[0].Key == "h" && got[2].Headers[1].Value == nil)
	check(mark+": from an offset", read(0, kgo.NewOffset().At(2), 2)[0].Offset == 2)
	check(mark+": from a time", read(0, kgo.NewOffset().AfterMilli(now.UnixMilli()+15), 2)[0].Offset == 2)
	many := read(1, kgo.NewOffset().AtStart(), 3000)
	inOrder := len(many) == 3000
	for n := 0; inOrder && n < 3000; n++ {
		inOrder = string(many[n].Value) == fmt.Sprint(n)
	}
	check(mark+": three thousand in order", inOrder)
}

func franzAdministration(address string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(address))
	must("franz-go", err)
	defer client.Close()
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = fmt.Sprintf("fz-admin-%06d", rand.Intn(1_000_000)), 3, 1
	create.Topics = append(create.Topics, topic)
	made, err := create.RequestWith(ctx, client)
	must("franz-go: create", err)
	check("franz-go: made", made.Topics[0].ErrorCode == 0 && made.Topics[0].NumPartitions == 3 && made.Topics[0].TopicID != [16]byte{})
	again, err := create.RequestWith(ctx, client)
	must("franz-go: create again", err)
	check("franz-go: a second one is refused", kerr.ErrorForCode(again.Topics[0].ErrorCode) == kerr.TopicAlreadyExists)
}

func saramaClient(address, codec string, compression sarama.CompressionCodec) {
	mark := "sarama " + codec
	topic := fmt.Sprintf("sa-%s-%06d", codec, rand.Intn(1_000_000))
	config := sarama.NewConfig()
	config.Version = sarama.V4_0_0_0
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = compression
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	client, err := sarama.NewClient([]string{address}, config)
	must(mark, err)
	defer client.Close()
	producer, err := sarama.NewSyncProducerFromClient(client)
	must(mark, err)
	values := [][]byte{[]byte("x"), nil, []byte("z"), large}
	for n, value := range values {
		message := &sarama.ProducerMessage{Topic: topic, Partition: 0, Timestamp: now.Add(time.Duration(n) * 10 * time.Millisecond)}
		if value != nil {
			message.Value = sarama.ByteEncoder(value)
		}
		if n == 2 {
			message.Key = sarama.StringEncoder("k")
			message.Headers = []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("1")}}
		}
		_, offset, err := producer.SendMessage(message)
		must(mark, err)
		check(fmt.Sprintf("%s: offset %d", mark, n), offset == int64(n))
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	must(mark, err)
	defer consumer.Close()
	read := func(from int64, count int) []*sarama.ConsumerMessage {
		part, err := consumer.ConsumePartition(topic, 0, from)
		must(mark, err)
		defer part.Close()
		var got []*sarama.ConsumerMessage
		for len(got) < count {
			select {
			case message := <-part.Messages():
				got = append(got, message)
			case <-time.After(20 * time.Second):
				return got
			}
		}
		return got
	}
	got := read(sarama.OffsetOldest, len(values))
	isSame := len(got) == len(values)
	for n := 0; isSame && n < len(values); n++ {
		isSame = bytes.Equal(got[n].Value, values[n]) && got[n].Timestamp.Equal(now.Add(time.Duration(n)*10*time.Millisecond))
	}
	check(mark+": values and times", isSame)
	check(mark+": key and header", len(got) > 2 && string(got[2].Key) == "k" && len(got[2].Headers) == 1)
	from := read(3, 1)
	check(mark+": from an offset", len(from) == 1 && from[0].Offset == 3)
	// Sarama leaves the batch's greatest timestamp unset: the broker must have set it, or no time is found.
	at, err := client.GetOffset(topic, 0, now.UnixMilli()+15)
	must(mark, err)
	check(mark+": from a time", at == 2)
}

func main() {
	address := os.Args[1]
	if len(os.Args) > 4 {
		runMember(address, os.Args[3], os.Args[4])
	}
	franz(address, "none", kgo.NoCompression())
	franz(address, "gzip", kgo.GzipCompression())
	franz(address, "snappy", kgo.SnappyCompression())
	franz(address, "lz4", kgo.Lz4Compression())
	franz(address, "zstd", kgo.ZstdCompression())
	franzAdministration(address)
	saramaClient(address, "none", sarama.CompressionNone)
	saramaClient(address, "gzip", sarama.CompressionGZIP)
	saramaClient(address, "snappy", sarama.CompressionSnappy)
	saramaClient(address, "lz4", sarama.CompressionLZ4)
	saramaClient(address, "zstd", sarama.CompressionZSTD)
	runGroups(address)
	fmt.Printf("go: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
