package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// watchBus keeps streams, CDNs and picture references up to date until ctx
// ends. After every loss of the connection everything is read anew.
func (c *Console) watchBus(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.watchOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		c.busHealth(err)
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (c *Console) busHealth(err error) {
	c.st.mu.Lock()
	changed := c.st.bus.set(err, time.Now())
	c.st.mu.Unlock()
	if !changed {
		return
	}
	if err != nil {
		c.s.Logger.Warn("console has no news from the bus", "err", err)
	} else {
		c.s.Logger.Info("console hears the bus")
	}
}

var errBusAway = errors.New("connection to the bus is lost")

// watchOnce returns when the connection is lost or something cannot be opened.
func (c *Console) watchOnce(ctx context.Context) error {
	nc := c.s.JetStream.Conn()
	if !nc.IsConnected() {
		return errBusAway
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	status := nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED, nats.CONNECTED)
	defer nc.RemoveStatusListener(status)

	open, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	watch := func(bucket string) (jetstream.KeyWatcher, error) {
		kv, err := c.s.JetStream.KeyValue(open, bucket)
		if err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
		}
		w, err := kv.WatchAll(ctx)
		if err != nil {
			return nil, fmt.Errorf("watch bucket %s: %w", bucket, err)
		}
		return w, nil
	}
	streams, err := watch(schemas.BucketStreams)
	if err != nil {
		return err
	}
	defer streams.Stop()
	cdns, err := watch(schemas.BucketCDNs)
	if err != nil {
		return err
	}
	defer cdns.Stop()
	used, err := watch(schemas.BucketUsage)
	if err != nil {
		return err
	}
	defer used.Stop()
	alerts, err := watch(schemas.BucketAlerts)
	if err != nil {
		return err
	}
	defer alerts.Stop()
	cons, err := c.s.JetStream.OrderedConsumer(open, schemas.StreamPictures, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"pictures.>"}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, HeadersOnly: true,
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
	}
	failed := make(chan error, 1)
	cc, err := cons.Consume(c.onPicture, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) {
			select {
			case failed <- err:
			default:
			}
		}
	}))
	if err != nil {
		return fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
	}
	defer cc.Stop()

	// Until the initial values are complete, the old ones stand.
	newStreams, newCDNs, newAlerts := map[string]schemas.StreamState{}, map[string]schemas.CDN{}, map[string]*schemas.Alert{}
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-status:
			if s != nats.CONNECTED {
				return errBusAway
			}
			return errors.New("connection to the bus was renewed")
		case err := <-failed:
			return fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
		case <-beat.C:
			if !nc.IsConnected() {
				return errBusAway
			}
			if newStreams == nil && newCDNs == nil {
				c.busHealth(nil)
			}
		case e, ok := <-streams.Updates():
			if !ok {
				return errors.New("watch of the streams ended")
			}
			c.apply(func() {
				if e == nil {
					c.st.streams, newStreams = newStreams, nil
				} else {
					onStream(pick(newStreams, c.st.streams), e)
				}
			})
		case e, ok := <-alerts.Updates():
			if !ok {
				return errors.New("watch of the alerts ended")
			}
			c.apply(func() {
				if e == nil {
					c.st.alerts, newAlerts = newAlerts, nil
				} else {
					onAlert(pick(newAlerts, c.st.alerts), e)
				}
			})
		case e, ok := <-used.Updates():
			if !ok {
				return errors.New("watch of the volumes ended")
			}
			if e == nil {
				continue
			}
			if u, err := schemas.ParseUsage(e.Key(), e.Value()); err == nil {
				c.apply(func() { c.st.used = u })
			}
		case e, ok := <-cdns.Updates():
			if !ok {
				return errors.New("watch of the CDNs ended")
			}
			c.apply(func() {
				if e == nil {
					c.st.cdns, newCDNs = newCDNs, nil
				} else {
					onCDN(pick(newCDNs, c.st.cdns), e)
				}
			})
		}
		if newStreams == nil && newCDNs == nil && !c.busOK() {
			c.busHealth(nil)
		}
	}
}

func (c *Console) busOK() bool {
	c.st.mu.Lock()
	defer c.st.mu.Unlock()
	return c.st.bus.OK
}

func (c *Console) apply(f func()) {
	c.st.mu.Lock()
	f()
	c.st.mu.Unlock()
}

// pick gives the map that is being filled, or the one in use.
func pick[V any](filling, used map[string]V) map[string]V {
	if filling != nil {
		return filling
	}
	return used
}

func onStream(m map[string]schemas.StreamState, e jetstream.KeyValueEntry) {
	var s schemas.StreamState
	// What does not decode, or names another stream than its key, is not shown.
	if e.Operation() != jetstream.KeyValuePut || json.Unmarshal(e.Value(), &s) != nil ||
		s.Key().Check() != nil || s.Key().KVKey() != e.Key() {
		delete(m, e.Key())
		return
	}
	m[e.Key()] = s
}

func onCDN(m map[string]schemas.CDN, e jetstream.KeyValueEntry) {
	var d schemas.CDN
	if e.Operation() != jetstream.KeyValuePut || json.Unmarshal(e.Value(), &d) != nil || d.Check() != nil || d.Name != e.Key() {
		delete(m, e.Key())
		return
	}
	m[e.Key()] = d
}

func (c *Console) onPicture(m jetstream.Msg) {
	k, err := schemas.ParsePictureSubject(m.Subject())
	if err != nil {
		return
	}
	md, err := m.Metadata()
	if err != nil {
		return
	}
	p, ok := refOf(m.Headers(), md.Sequence.Stream)
	if !ok {
		return
	}
	c.apply(func() {
		if p.Seq > c.st.pictures[k].Seq {
			c.st.pictures[k] = p
		}
	})
}

// refOf reads the header of a picture message.
func refOf(h nats.Header, seq uint64) (pictureRef, bool) {
	var p schemas.Picture
	if json.Unmarshal([]byte(h.Get(schemas.HeaderPicture)), &p) != nil {
		return pictureRef{}, false
	}
	return pictureRef{Seq: seq, TimeMs: p.WallUnixUs / 1000, Width: p.Width, Height: p.Height}, true
}
