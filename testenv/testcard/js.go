package testcard

import _ "embed" // for the decoder's source

//go:embed testcard.js
var decoderJS string

// DecoderJS is JavaScript that defines decodeTestCard(imageData), which returns Unix milliseconds or null,
// for a page that draws a video on a canvas. It needs nothing but the language (ES2015).
func DecoderJS() string { return decoderJS }
