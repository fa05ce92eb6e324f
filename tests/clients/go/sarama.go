// Consumer groups of sarama: eager, with its own handler and session.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// Reads until its session is over.
type saramaHandler struct{ *member }

func (h saramaHandler) Setup(session sarama.ConsumerGroupSession) error {
	h.change(session.Claims(), false)
	return nil
}

func (h saramaHandler) Cleanup(session sarama.ConsumerGroupSession) error {
	h.change(session.Claims(), true)
	return nil
}

func (h saramaHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, isOpen := <-claim.Messages():
			if !isOpen {
				return nil
			}
			h.took(message.Topic, message.Value)
			session.MarkMessage(message, fmt.Sprintf("up to «%d»", message.Offset+1))
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V4_0_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = session
	config.Consumer.Group.Heartbeat.Interval = heartbeats
	return config
}

func (d *desk) saramaMember(group, topic string, change func(*sarama.Config)) *member {
	m := &member{parts: map[string]bool{}}
	config := saramaConfig()
	change(config)
	client, err := sarama.NewConsumerGroup([]string{d.address}, group, config)
	need(err)
	ctx, cancel := context.WithCancel(d.ctx)
	ended := make(chan struct{})
	m.leave = func() {
		cancel()
		<-ended
		need(client.Close())
	}
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := client.Consume(ctx, []string{topic}, saramaHandler{m}); err != nil {
				fmt.Println("sarama: consume:", err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return m
}

func asItIs(*sarama.Config) {}

func (d *desk) saramaResumes() {
	topic := d.newTopic(fresh("sa-resumes"))
	d.send(topic, 0, 40)
	first := d.saramaMember(topic, topic, asItIs)
	waitFor("sarama: all from the start", func() bool { return slices.Equal(read(first), numbers(0, 40)) })
	waitFor("sarama: committed", func() bool { return d.areCommitted(topic, 10) })
	first.leave()
	for id, partition := range d.committed(topic) {
		check(fmt.Sprintf("sarama: words of %d", id), partition.Metadata != nil && *partition.Metadata == "up to «10»")
	}
	d.send(topic, 40, 80)
	second := d.saramaMember(topic, topic, asItIs)
	waitFor("sarama: goes on", func() bool { return len(read(second)) >= 40 })
	check("sarama: nothing that was committed again", slices.Equal(read(second), numbers(40, 80)))
	second.leave()
}

func (d *desk) saramaShares() {
	topic := d.newTopic(fresh("sa-shares"))
	d.share("sarama", topic, d.saramaMember(topic, topic, asItIs), d.saramaMember(topic, topic, asItIs))
}

func (d *desk) saramaAssigns(name string, strategy sarama.BalanceStrategy) {
	topic := d.newTopic(fresh("sa-assigns"))
	change := func(config *sarama.Config) {
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	}
	one := d.saramaMember(topic, topic, change)
	waitShared("sarama "+name+": one has all", one)
	two := d.saramaMember(topic, topic, change)
	waitShared("sarama "+name+": two share", one, two)
	d.send(topic, 0, 200)
	waitFor("sarama "+name+": both read", func() bool { return len(read(one, two)) >= 200 })
	check("sarama "+name+": each record goes to one of them", slices.Equal(read(one, two), numbers(0, 200)))
	one.leave()
	waitShared("sarama "+name+": the other takes over", two)
	two.leave()
}

func (d *desk) saramaRoundRobin() {
	d.saramaAssigns("roundrobin", sarama.NewBalanceStrategyRoundRobin())
}

func (d *desk) saramaSticky() { d.saramaAssigns("sticky", sarama.NewBalanceStrategySticky()) }

func (d *desk) saramaStatic() {
	topic := d.newTopic(fresh("sa-static"))
	named := func(name string) func(*sarama.Config) {
		return func(config *sarama.Config) { config.Consumer.Group.InstanceId = name }
	}
	one, two := d.saramaMember(topic, topic, named("one")), d.saramaMember(topic, topic, named("two"))
	waitShared("sarama: static members share", one, two)
	_, told, _ := two.state()
	one.leave()
	again := d.saramaMember(topic, topic, named("one"))
	waitShared("sarama: its old place", again, two)
	_, rebalances, _ := two.state()
	check("sarama: the other saw no rebalance", rebalances == told)
	again.leave()
	two.leave()
}

func (d *desk) saramaTools() {
	topic := d.newTopic(fresh("sa-tools"))
	d.send(topic, 0, 40)
	m := d.saramaMember(topic, topic, asItIs)
	waitFor("sarama tools: committed", func() bool { return d.areCommitted(topic, 10) })
	admin, err := sarama.NewClusterAdmin([]string{d.address}, saramaConfig())
	need(err)
	defer admin.Close()
	described, err := admin.DescribeConsumerGroups([]string{topic})
	need(err)
	check("sarama tools: described as stable", described[0].State == "Stable" && described[0].Protocol == "range" && len(described[0].Members) == 1)
	for _, one := range described[0].Members {
		assigned, err := one.GetMemberAssignment()
		need(err)
		check("sarama tools: its member", len(assigned.Topics[topic]) == partitions && one.ClientHost == "/127.0.0.1")
	}
	check("sarama tools: not deleted with members", errors.Is(admin.DeleteConsumerGroup(topic), sarama.ErrNonEmptyGroup))
	m.leave()
	listed, err := admin.ListConsumerGroups()
	need(err)
	check("sarama tools: listed", listed[topic] == "consumer")
	offsets, err := admin.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0, 3}})
	need(err)
	check("sarama tools: offsets", offsets.GetBlock(topic, 0).Offset == 10 && offsets.GetBlock(topic, 3).Offset == 10)
	need(admin.DeleteConsumerGroupOffset(topic, topic, 0))
	check("sarama tools: an offset deleted", len(d.committed(topic)) == partitions-1)
	need(admin.DeleteConsumerGroup(topic))
	check("sarama tools: deleted", len(d.committed(topic)) == 0 && errors.Is(admin.DeleteConsumerGroup(topic), sarama.ErrGroupIDNotFound))
}
