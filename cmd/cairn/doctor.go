package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"cairn/engine/broker/settings"
	"cairn/platform/clock"
)

func doctorCommand() *cobra.Command {
	c := &cobra.Command{Use: "doctor", Short: "Look at a running box and say what is wrong and what to know", Args: cobra.NoArgs}
	addBootstrap(c)
	address := addHTTP(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		d := &diagnosis{out: newPrinter(c)}
		d.box(c.Context(), *address)
		d.openDoors(*address)
		d.clock()
		d.topics(c)
		if d.bad > 0 {
			return fmt.Errorf("%d problems found", d.bad)
		}
		return nil
	}
	return c
}

// diagnosis prints findings and counts the bad ones.
type diagnosis struct {
	out printer
	bad int
}

func (d *diagnosis) say(grade, text string) {
	if grade == "bad" {
		d.bad++
	}
	d.out.line(fmt.Sprintf("%-5s %s", grade, text))
	if d.out.json {
		_ = d.out.object(map[string]string{"grade": grade, "text": text})
	}
}

func (d *diagnosis) box(ctx context.Context, address string) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		d.say("bad", err.Error())
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.say("bad", fmt.Sprintf("no box answers at %s: %v; start one with `cairn start`, or name it with --http", address, err))
		return
	}
	defer func() { _ = resp.Body.Close() }()
	var body struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		d.say("bad", fmt.Sprintf("%s is not a cairn box: %v", address, err))
		return
	}
	if !body.OK {
		d.say("bad", "the box is not ready: "+body.Error)
		return
	}
	d.say("ok", "the box at "+address+" is ready")
}

// openDoors says what strangers on the network can reach.
func (d *diagnosis) openDoors(address string) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsLoopback() {
		d.say("note", "the box is open to the network, and there is no login yet: whoever reaches it may read and write")
		return
	}
	d.say("ok", "reached by loopback")
}

func (d *diagnosis) clock() {
	switch {
	case time.Now().Year() < 2026:
		d.say("bad", fmt.Sprintf("the clock shows %s: retention by time waits until it is right", time.Now().UTC().Format(time.DateOnly)))
	case clock.Synchronised():
		d.say("ok", "the clock is synchronised")
	default:
		d.say("note", "the kernel does not say that the clock is synchronised; run an NTP client, or start with --clock trusted")
	}
}

// topics names settings that are accepted and do nothing yet.
func (d *diagnosis) topics(c *cobra.Command) {
	adm, err := admin(c)
	if err != nil {
		d.say("bad", err.Error())
		return
	}
	defer adm.Close()
	names, err := adm.ListTopics(c.Context())
	if err != nil {
		d.say("bad", fmt.Sprintf("topics cannot be listed: %v", err))
		return
	}
	for _, t := range names.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			if p.Err != nil || p.Leader < 0 {
				d.say("bad", fmt.Sprintf("%s-%d has no leader: %v", t.Topic, p.Partition, errors.Join(p.Err, errors.New("see the box's log"))))
			}
		}
	}
	if len(names) == 0 {
		return
	}
	configs, err := adm.DescribeTopicConfigs(c.Context(), names.Names()...)
	if err != nil {
		d.say("bad", fmt.Sprintf("settings cannot be read: %v", err))
		return
	}
	for _, r := range configs {
		for _, s := range r.Configs {
			if s.Source.String() != "DYNAMIC_TOPIC_CONFIG" {
				continue
			}
			if def, ok := settings.TopicDefinition(s.Key); ok && def.Effect == settings.NoEffect {
				d.say("note", fmt.Sprintf("topic %s: %s=%s has no effect yet", r.Name, s.Key, s.MaybeValue()))
			}
			if s.Key == "cairn.durability" && s.MaybeValue() == "replicated" {
				d.say("note", fmt.Sprintf("topic %s: acknowledged records are in memory first; a power cut may take them", r.Name))
			}
		}
	}
}
