// Package transcode makes the renditions of a ladder: lower pictures of streams
// that are watched, from one running ffmpeg for each stream.
//
// It promises that a rendition's segments and parts are exactly the source's:
// same epoch, numbers, base times and durations, a key frame at every segment
// start, so that a player changes at any segment. Every chunk is published under
// an id made of the source chunk's and fenced by the sequence before it, so
// workers that overlap do no harm: one gets a message in, the other stands by.
// Whoever goes on after another begins with a key frame of its own, so between
// two key frames everything is of one encoder. Who works on what is shared out
// by leases (schemas/lease), which are a saving only; correctness does not rest
// on them.
//
// Audio is neither made nor copied: variants refer to the source's.
package transcode
