// Package relay joins the buses of several regions. Each region has a bus of its
// own (a JetStream domain); relays of neighbouring regions talk over leaf node
// connections of their NATS servers.
//
// For each stream that is watched in its region, or in one that gets it from
// here, a relay opens one consumer in the MEDIA of the neighbour through which
// the nearest region that has the stream is reached, and publishes its messages
// on the same subject of its own MEDIA, with the same message id. Origins,
// packagers and recorders need not know. Who has pulled a stream is itself a
// source for those beyond it.
//
// It promises: messages of a subject keep their order; none is doubled and,
// while the region they come from keeps them, none is left out, whether a link is
// cut, the relay is killed, or the way to the stream changes. Where it stands is
// in MEDIA itself: in the last message of each subject, whose headers name the
// message it was made from, and the bus refuses what was not written in view of
// it. Nothing of a stream that nobody watches goes over a link but its entry in
// the registry.
//
// Where the region has a parent, settings come down from it, and for routers session
// slices and the decisions of other regions; telemetry, events and decisions go up.
//
// Several relays of one region stand by for each other; one works.
package relay
