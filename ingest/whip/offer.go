package whip

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pion/interceptor"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// errCodec is wrapped where an offer has nothing that can be taken.
var errCodec = errors.New("H.264 in packetisation mode 1 and Opus are taken")

// offered says which tracks an offer has.
type offered struct{ video, audio bool }

// maxMedia bounds the media sections of an offer.
const maxMedia = 16

// checkOffer reads an offer before anything is made of it, so that a refusal can name
// what it has.
func checkOffer(b []byte) (has offered, err error) {
	var d sdp.SessionDescription
	if err := d.Unmarshal(b); err != nil {
		return has, fmt.Errorf("the offer is not SDP: %.200s", err)
	}
	if len(d.MediaDescriptions) > maxMedia {
		return has, fmt.Errorf("the offer has %d media sections, at most %d are taken", len(d.MediaDescriptions), maxMedia)
	}
	for _, m := range d.MediaDescriptions {
		kind := m.MediaName.Media
		if kind != "video" && kind != "audio" || m.MediaName.Port.Value == 0 {
			continue
		}
		if _, only := m.Attribute("recvonly"); only {
			continue
		}
		names := codecs(m)
		want := "H264"
		if kind == "audio" {
			want = "OPUS"
		}
		if !slices.Contains(names, want) {
			return has, fmt.Errorf("%s in %s: %w", kind, strings.Join(names, ", "), errCodec)
		}
		if kind == "video" {
			has.video = true
		} else {
			has.audio = true
		}
	}
	if !has.video && !has.audio {
		return has, fmt.Errorf("the offer sends neither video nor audio: %w", errCodec)
	}
	return has, nil
}

// codecs gives the encodings of a media section in upper case, without repairs.
func codecs(m *sdp.MediaDescription) (names []string) {
	modes := map[string]string{} // fmtp by payload type
	for _, a := range m.Attributes {
		if a.Key == "fmtp" {
			pt, params, _ := strings.Cut(a.Value, " ")
			modes[pt] = params
		}
	}
	for _, a := range m.Attributes {
		pt, name, ok := strings.Cut(a.Value, " ")
		if a.Key != "rtpmap" || !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "/")
		name = strings.ToUpper(fmt.Sprintf("%.20s", name))
		if name == "H264" && !strings.Contains(modes[pt], "packetization-mode=1") {
			name = "H264 in another packetisation mode"
		}
		if name != "RTX" && name != "RED" && name != "ULPFEC" && name != "FLEXFEC-03" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// absCaptureTime is the header extension with the time of capture
// (https://webrtc.github.io/webrtc-org/experiments/rtp-hdrext/abs-capture-time).
const absCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

// newAPI knows the codings that are taken, and nothing else.
func newAPI(e webrtc.SettingEngine) (*webrtc.API, error) {
	var m webrtc.MediaEngine
	feedback := []webrtc.RTCPFeedback{{Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	for i, profile := range []string{"42e01f", "42001f", "4d001f", "640c1f", "64001f"} {
		if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(102 + i), RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeH264, ClockRate: 90000, RTCPFeedback: feedback,
			SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=" + profile,
		}}, webrtc.RTPCodecTypeVideo); err != nil {
			return nil, fmt.Errorf("whip: register H.264: %w", err)
		}
	}
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1;stereo=1",
		RTCPFeedback: []webrtc.RTCPFeedback{{Type: "nack"}}, // where the publisher offers it; browsers do not
	}}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("whip: register Opus: %w", err)
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: absCaptureTime}, kind); err != nil {
			return nil, fmt.Errorf("whip: register header extension: %w", err)
		}
	}
	var r interceptor.Registry
	for _, f := range []func() error{
		func() error { return webrtc.ConfigureNack(&m, &r) },
		func() error { return webrtc.ConfigureRTCPReports(&r) },
		func() error { return webrtc.ConfigureTWCCSender(&m, &r) },
	} {
		if err := f(); err != nil {
			return nil, fmt.Errorf("whip: set up RTCP: %w", err)
		}
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(e), webrtc.WithMediaEngine(&m), webrtc.WithInterceptorRegistry(&r)), nil
}
