package rtmp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bluenviron/gortmplib/pkg/amf0"
	"github.com/bluenviron/gortmplib/pkg/bytecounter"
	"github.com/bluenviron/gortmplib/pkg/handshake"
	"github.com/bluenviron/gortmplib/pkg/message"
	"github.com/bluenviron/gortmplib/pkg/rawmessage"
)

// RTMP message types (Adobe RTMP 1.0, sections 5.4 and 7.1).
const (
	typeSetChunkSize = 1
	typeAbort        = 2
	typeUserControl  = 4
	typeWindowAck    = 5
	typeAudio        = 8
	typeVideo        = 9
	typeDataAMF3     = 15
	typeCommandAMF3  = 17
	typeDataAMF0     = 18
	typeCommandAMF0  = 20
)

// maxAMFBytes bounds commands and metadata. AMF nests, and its decoder recurses: ten
// megabytes of nested objects would overflow the stack, which nothing can recover from.
const maxAMFBytes = 64 << 10

// wire is the server side of one RTMP connection: the handshake and chunk layer are
// gortmplib's, the messages are read here, so that sizes are checked before decoding,
// unknown messages are passed over, and frames are not parsed twice.
type wire struct {
	raw *rawmessage.Reader
	w   *message.Writer
}

// command is an AMF0 command.
type command struct {
	name   string
	id     int
	stream byte // chunk stream it came on
	args   amf0.Data
}

// accept does the handshake and answers commands until publish or play. It gives
// tcUrl, the stream name with its query, and whether it was publish.
func (x *wire) accept(rw io.ReadWriter) (tcURL, name string, publish bool, err error) {
	bc := bytecounter.NewReadWriter(rw)
	key, _, err := handshake.DoServer(bc, false)
	if err != nil {
		return "", "", false, err
	}
	if key != nil {
		return "", "", false, errors.New("RTMPE is not taken: use rtmp://")
	}
	x.w = message.NewWriter(bc, bc.Writer, false)
	x.raw = rawmessage.NewReader(bc, bc.Reader, func(n uint32) error { return x.w.Write(&message.Acknowledge{Value: n}) })
	for {
		m, err := x.next()
		if err != nil {
			return "", "", false, err
		}
		c, err := asCommand(m)
		if err != nil {
			return "", "", false, err
		}
		if c == nil {
			continue
		}
		switch c.name {
		case "connect":
			if tcURL, err = connectURL(c); err == nil {
				err = x.welcome(c)
			}
		case "createStream":
			err = x.w.Write(&message.CommandAMF0{ChunkStreamID: c.stream, Name: "_result", CommandID: c.id, Arguments: []any{nil, float64(1)}})
		case "publish", "play":
			if tcURL == "" {
				return "", "", false, fmt.Errorf("%s before connect", c.name)
			}
			if len(c.args) < 2 {
				return "", "", false, fmt.Errorf("%s command without a stream name", c.name)
			}
			s, ok := c.args[1].(string)
			if !ok {
				return "", "", false, fmt.Errorf("%s command without a stream name", c.name)
			}
			return tcURL, s, c.name == "publish", nil
		}
		if err != nil {
			return "", "", false, err
		}
	}
}

func connectURL(c *command) (string, error) {
	if len(c.args) < 1 {
		return "", errors.New("connect command without an object")
	}
	o, ok := asObject(c.args[0])
	if !ok {
		return "", errors.New("connect command without an object")
	}
	u, ok := o.GetString("tcUrl")
	if !ok {
		u, ok = o.GetString("tcurl")
	}
	if !ok || u == "" {
		return "", errors.New("connect command without tcUrl")
	}
	return strings.Trim(u, "'"), nil
}

func asObject(v any) (amf0.Object, bool) {
	switch o := v.(type) {
	case amf0.Object:
		return o, true
	case amf0.ECMAArray:
		return amf0.Object(o), true
	}
	return nil, false
}

func (x *wire) welcome(c *command) error {
	for _, m := range []message.Message{
		&message.SetWindowAckSize{Value: 2_500_000},
		&message.SetPeerBandwidth{Value: 2_500_000, Type: 2},
		&message.SetChunkSize{Value: 65536},
		&message.CommandAMF0{
			ChunkStreamID: c.stream, Name: "_result", CommandID: c.id,
			Arguments: []any{
				amf0.Object{{Key: "fmsVer", Value: "LNX 9,0,124,2"}, {Key: "capabilities", Value: float64(31)}},
				amf0.Object{
					{Key: "level", Value: "status"}, {Key: "code", Value: "NetConnection.Connect.Success"},
					{Key: "description", Value: "Connection succeeded."}, {Key: "objectEncoding", Value: float64(0)},
				},
			},
		},
	} {
		if err := x.w.Write(m); err != nil {
			return err
		}
	}
	return nil
}

// status sends an onStatus command.
func (x *wire) status(level, code, description string) error {
	return x.w.Write(&message.CommandAMF0{
		ChunkStreamID: 5, MessageStreamID: 0x1000000, Name: "onStatus",
		Arguments: []any{nil, amf0.Object{
			{Key: "level", Value: level}, {Key: "code", Value: code}, {Key: "description", Value: description},
		}},
	})
}

// next reads a message, after obeying those that are about the connection itself.
func (x *wire) next() (*rawmessage.Message, error) {
	for {
		m, err := x.raw.Read()
		if err != nil {
			return nil, err
		}
		switch m.Type {
		case typeSetChunkSize, typeAbort, typeWindowAck:
			if len(m.Body) < 4 {
				return nil, fmt.Errorf("control message %d of %d bytes", m.Type, len(m.Body))
			}
			v := binary.BigEndian.Uint32(m.Body)
			switch {
			case m.Type == typeAbort:
				x.raw.AbortChunkStream(v)
			case m.Type == typeWindowAck:
				x.raw.SetWindowAckSize(v)
			case v == 0:
				return nil, errors.New("chunk size of 0")
			default:
				if err := x.raw.SetChunkSize(v & 0x7fffffff); err != nil {
					return nil, err
				}
			}
		case typeUserControl: // only a ping wants an answer
			if len(m.Body) >= 6 && binary.BigEndian.Uint16(m.Body) == 6 {
				if err := x.w.Write(&message.UserControlPingResponse{ServerTime: binary.BigEndian.Uint32(m.Body[2:])}); err != nil {
					return nil, err
				}
			}
		default:
			return m, nil
		}
	}
}

// amfOf decodes the values of a command or data message; nil for other messages.
func amfOf(m *rawmessage.Message) (amf0.Data, error) {
	body := m.Body
	switch m.Type {
	case typeDataAMF0, typeCommandAMF0:
	case typeDataAMF3, typeCommandAMF3: // a format byte, then AMF0
		if len(body) == 0 || body[0] != 0 {
			return nil, nil
		}
		body = body[1:]
	default:
		return nil, nil
	}
	if len(body) > maxAMFBytes {
		return nil, fmt.Errorf("command or metadata of %d bytes: at most %d are taken", len(body), maxAMFBytes)
	}
	return amf0.Unmarshal(body)
}

// asCommand gives the command that m is, or nil.
func asCommand(m *rawmessage.Message) (*command, error) {
	if m.Type != typeCommandAMF0 && m.Type != typeCommandAMF3 {
		return nil, nil
	}
	d, err := amfOf(m)
	if err != nil || d == nil {
		return nil, err
	}
	if len(d) < 2 {
		return nil, errors.New("command of less than two values")
	}
	name, ok1 := d[0].(string)
	id, ok2 := d[1].(float64)
	if !ok1 || !ok2 {
		return nil, errors.New("command without name and number")
	}
	return &command{name: name, id: int(id), stream: m.ChunkStreamID, args: d[2:]}, nil
}

// timestamp is the message's time, milliseconds.
func timestamp(m *rawmessage.Message) uint32 { return uint32(m.Timestamp / time.Millisecond) }
