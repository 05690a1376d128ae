// Package srt takes live streams over SRT (draft-sharabayko-srt): an MPEG transport
// stream in live mode, with a stream id that names the stream (see [ParseStreamID]).
//
// It answers callers with the rejection codes of SRT's access control, decrypts
// where a passphrase is set, takes the transport stream apart (ingest/mpegts) and hands
// configurations and frames to ingest/publish, which has the rest. SRT in live mode
// cannot be held back: while the bus takes nothing, packets are kept up to
// Settings.MaxQueueBytes, and what comes then is lost, as on a bad network. After a
// loss, video goes on with the next key frame. It takes H.264, H.265, AAC (ADTS) and
// Opus; other codings are refused by name. It does not take rendezvous, bonding,
// file mode or SRT before 1.4.1, and serves no players.
//
// What a publisher sends within its last latency window before it closes is not
// delivered by the SRT library, so a stream ends up to that much early.
package srt
