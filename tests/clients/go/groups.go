// Consumer groups of franz-go (cooperative by default) and sarama (eager) against a running daemon: reading on after a restart, sharing,
// leaving, being killed, static members, assignors, patterns, tools. Scenarios run side by side. Here what they share, and franz-go's; sarama.go
// has sarama's.
package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	partitions = 4
	session    = 6 * time.Second
	patience   = 60 * time.Second
	heartbeats = 300 * time.Millisecond
)

// A member of a group on goroutines of its own: what it read, what it has, how often that changed.
type member struct {
	sync.Mutex
	values     []int
	parts      map[string]bool
	rebalances int
	given      []int
	leave      func()
}

func (m *member) took(topic string, value []byte) {
	n, _ := strconv.Atoi(string(value))
	m.Lock()
	defer m.Unlock()
	m.values = append(m.values, n)
}

func (m *member) change(parts map[string][]int32, isGiven bool) {
	m.Lock()
	defer m.Unlock()
	m.rebalances++
	count := 0
	for topic, ids := range parts {
		for _, id := range ids {
			count++
			if isGiven {
				delete(m.parts, fmt.Sprint(topic, id))
			} else {
				m.parts[fmt.Sprint(topic, id)] = true
			}
		}
	}
	if isGiven && count > 0 {
		m.given = append(m.given, count)
	}
}

func (m *member) state() (parts, rebalances int, given []int) {
	m.Lock()
	defer m.Unlock()
	return len(m.parts), m.rebalances, slices.Clone(m.given)
}

func read(members ...*member) []int {
	var all []int
	for _, m := range members {
		m.Lock()
		all = append(all, m.values...)
		m.Unlock()
	}
	slices.Sort(all)
	return all
}

func numbers(from, to int) []int {
	all := []int{}
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// Scenarios end by a panic when they wait in vain; runGroups counts it.
func waitFor(what string, isTrue func() bool) time.Duration {
	began := time.Now()
	for !isTrue() {
		if time.Since(began) > patience {
			panic(what + ": not in time")
		}
		time.Sleep(20 * time.Millisecond)
	}
	check(what, true)
	return time.Since(began)
}

func need(err error) {
	if err != nil {
		panic(err)
	}
}

func waitShared(what string, members ...*member) time.Duration {
	return waitFor(what, func() bool {
		for _, m := range members {
			if parts, _, _ := m.state(); parts != partitions/len(members) {
				return false
			}
		}
		return true
	})
}

func fresh(name string) string { return fmt.Sprintf("%s-%08x", name, rand.Uint32()) }

// What scenarios share: a client that produces, makes topics and asks about groups.
type desk struct {
	address string
	client  *kgo.Client
	ctx     context.Context
}

func (d *desk) newTopic(name string) string {
	request := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(d.ctx, d.client)
	need(err)
	need(kerr.ErrorForCode(answer.Topics[0].ErrorCode))
	return name
}

func (d *desk) send(topic string, from, to int) {
	var records []*kgo.Record
	for n := from; n < to; n++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(n % partitions), Value: []byte(strconv.Itoa(n))})
	}
	need(d.client.ProduceSync(d.ctx, records...).FirstErr())
}

// Offset, leader epoch and words of each partition that has them.
func (d *desk) committed(group string) map[int32]kmsg.OffsetFetchResponseGroupTopicPartition {
	request := kmsg.NewPtrOffsetFetchRequest()
	asked := kmsg.NewOffsetFetchRequestGroup()
	asked.Group = group
	request.Groups = append(request.Groups, asked)
	answer, err := request.RequestWith(d.ctx, d.client)
	need(err)
	found := map[int32]kmsg.OffsetFetchResponseGroupTopicPartition{}
	for _, topic := range answer.Groups[0].Topics {
		for _, partition := range topic.Partitions {
			found[partition.Partition] = partition
		}
	}
	return found
}

func (d *desk) areCommitted(group string, end int64) bool {
	found := d.committed(group)
	for _, partition := range found {
		if partition.Offset != end {
			return false
		}
	}
	return len(found) == partitions
}

func (d *desk) franzMember(group, topic string, options ...kgo.Opt) *member {
	m := &member{parts: map[string]bool{}}
	all := append([]kgo.Opt{
		kgo.SeedBrokers(d.address), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.SessionTimeout(session), kgo.HeartbeatInterval(heartbeats), kgo.MetadataMaxAge(time.Second),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { m.change(parts, false) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { m.change(parts, true) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { m.change(parts, true) }),
	}, options...)
	client, err := kgo.NewClient(all...)
	need(err)
	ended := make(chan struct{})
	m.leave = func() {
		client.CloseAllowingRebalance()
		<-ended
	}
	go func() {
		defer close(ended)
		for {
			fetches := client.PollFetches(d.ctx)
			if fetches.IsClientClosed() || d.ctx.Err() != nil {
				return
			}
			fetches.EachRecord(func(record *kgo.Record) { m.took(record.Topic, record.Value) })
			// Refused when its partitions are another's by now.
			_ = client.CommitRecords(d.ctx, fetches.Records()...)
		}
	}()
	return m
}

func (d *desk) franzResumes() {
	topic := d.newTopic(fresh("fz-resumes"))
	d.send(topic, 0, 40)
	first := d.franzMember(topic, topic)
	waitFor("franz-go: all from the start", func() bool { return slices.Equal(read(first), numbers(0, 40)) })
	waitFor("franz-go: committed", func() bool { return d.areCommitted(topic, 10) })
	first.leave()
	// franz-go puts the member's id beside the offset.
	for id, partition := range d.committed(topic) {
		check(fmt.Sprintf("franz-go: words and leader epoch of %d", id), partition.Metadata != nil && *partition.Metadata != "" && partition.LeaderEpoch >= 0)
	}
	d.send(topic, 40, 80)
	second := d.franzMember(topic, topic)
	waitFor("franz-go: goes on", func() bool { return len(read(second)) >= 40 })
	check("franz-go: nothing that was committed again", slices.Equal(read(second), numbers(40, 80)))
	second.leave()
}

func (d *desk) franzShares() {
	topic := d.newTopic(fresh("fz-shares"))
	one, two := d.franzMember(topic, topic), d.franzMember(topic, topic)
	d.share("franz-go", topic, one, two)
}

// Two that are in a group for this topic alone; one leaves, a third comes and is killed.
func (d *desk) share(mark, topic string, one, two *member) {
	waitShared(mark+": two share", one, two)
	d.send(topic, 0, 200)
	waitFor(mark+": two read", func() bool { return len(read(one, two)) >= 200 })
	check(mark+": each record goes to one of them", slices.Equal(read(one, two), numbers(0, 200)) && len(read(one)) == 100)
	waitFor(mark+": two have committed", func() bool { return d.areCommitted(topic, 50) })
	one.leave()
	took := waitShared(mark+": takes over from one that left", two)
	check(fmt.Sprint(mark, ": and at once: ", took), took < session-time.Second)
	d.send(topic, 200, 240)
	waitFor(mark+": reads what that one would have", func() bool { return slices.Equal(read(one, two), numbers(0, 240)) })
	third := exec.Command(os.Args[0], d.address, "member", mark, topic)
	need(third.Start())
	waitFor(mark+": a third comes in", func() bool { parts, _, _ := two.state(); return parts == partitions/2 })
	need(third.Process.Kill())
	_ = third.Wait()
	took = waitShared(mark+": takes over from one that was killed", two)
	check(fmt.Sprint(mark, ": after its session: ", took), took > session-2*time.Second)
	d.send(topic, 240, 280)
	waitFor(mark+": reads all", func() bool { return slices.Equal(read(one, two), numbers(0, 280)) })
	two.leave()
}

func (d *desk) franzStatic() {
	topic := d.newTopic(fresh("fz-static"))
	one, two := d.franzMember(topic, topic, kgo.InstanceID("one")), d.franzMember(topic, topic, kgo.InstanceID("two"))
	waitShared("franz-go: static members share", one, two)
	_, told, _ := two.state()
	one.leave()
	again := d.franzMember(topic, topic, kgo.InstanceID("one"))
	waitShared("franz-go: its old place", again, two)
	d.send(topic, 0, 40)
	waitFor("franz-go: both read on", func() bool { return slices.Equal(read(again, two), numbers(0, 40)) })
	_, rebalances, _ := two.state()
	check("franz-go: the other saw no rebalance", rebalances == told)
	again.leave()
	leave := kmsg.NewPtrLeaveGroupRequest()
	gone, instance := kmsg.NewLeaveGroupRequestMember(), "one"
	leave.Group, gone.InstanceID = topic, &instance
	leave.Members = append(leave.Members, gone)
	answer, err := leave.RequestWith(d.ctx, d.client)
	need(err)
	check("franz-go: a static member is removed", answer.ErrorCode == 0 && answer.Members[0].ErrorCode == 0)
	waitShared("franz-go: and the other takes over", two)
	two.leave()
}

func (d *desk) franzAssigns(name string, balancer kgo.GroupBalancer, given int) {
	topic := d.newTopic(fresh("fz-assigns"))
	one := d.franzMember(topic, topic, kgo.Balancers(balancer))
	waitShared(name+": one has all", one)
	two := d.franzMember(topic, topic, kgo.Balancers(balancer))
	waitShared(name+": two share", one, two)
	_, _, sizes := one.state()
	check(fmt.Sprint(name, ": gave back ", sizes), slices.Equal(sizes, []int{given}))
	d.send(topic, 0, 200)
	waitFor(name+": both read", func() bool { return len(read(one, two)) >= 200 })
	check(name+": each record goes to one of them", slices.Equal(read(one, two), numbers(0, 200)))
	one.leave()
	waitShared(name+": the other takes over", two)
	two.leave()
}

func (d *desk) franzMatches() {
	prefix := fresh("fz-match")
	d.send(d.newTopic(prefix+"-a"), 0, 40)
	m := d.franzMember(fresh("fz-matches"), "^"+prefix+"-.*", kgo.ConsumeRegex())
	waitFor("franz-go: by pattern", func() bool { return slices.Equal(read(m), numbers(0, 40)) })
	d.send(d.newTopic(prefix+"-b"), 40, 80)
	waitFor("franz-go: a topic that came later", func() bool { return slices.Equal(read(m), numbers(0, 80)) })
	m.leave()
}

// One member that is there to be killed.
func runMember(address, client, topic string) {
	d := &desk{address: address, ctx: context.Background()}
	if client == "sarama" {
		d.saramaMember(topic, topic, asItIs)
	} else {
		d.franzMember(topic, topic)
	}
	select {}
}

func runGroups(address string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must("franz-go", err)
	defer client.Close()
	d := &desk{address: address, client: client, ctx: ctx}
	scenarios := map[string]func(){
		"franz-go resumes":   d.franzResumes,
		"franz-go shares":    d.franzShares,
		"franz-go static":    d.franzStatic,
		"franz-go matches":   d.franzMatches,
		"franz-go coop":      func() { d.franzAssigns("franz-go cooperative-sticky", kgo.CooperativeStickyBalancer(), partitions/2) },
		"franz-go range":     func() { d.franzAssigns("franz-go range", kgo.RangeBalancer(), partitions) },
		"franz-go robin":     func() { d.franzAssigns("franz-go roundrobin", kgo.RoundRobinBalancer(), partitions) },
		"sarama resumes":     d.saramaResumes,
		"sarama shares":      d.saramaShares,
		"sarama static":      d.saramaStatic,
		"sarama tools":       d.saramaTools,
		"sarama round robin": d.saramaRoundRobin,
		"sarama sticky":      d.saramaSticky,
	}
	var group sync.WaitGroup
	for name, scenario := range scenarios {
		group.Go(func() {
			defer func() {
				if reason := recover(); reason != nil {
					check(fmt.Sprint(name, ": ", reason), false)
				}
			}()
			scenario()
		})
	}
	group.Wait()
}
