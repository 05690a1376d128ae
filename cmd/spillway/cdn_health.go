package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// routerHealth asks a router what it knows of a CDN; where none says, why.
func (b *base) routerHealth(ctx ctx, q schemas.HealthQuery) (h *schemas.CDNHealth, why string) {
	nc, _, err := b.connect(ctx, "spillway-cli", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err.Error()
	}
	defer nc.Close()
	data, err := json.Marshal(q)
	if err != nil {
		return nil, err.Error()
	}
	m, err := nc.Request(schemas.SubjectRouterHealth, data, 2*time.Second)
	if err != nil {
		return nil, fmt.Sprintf("no router answers: %v", err)
	}
	var answer struct {
		schemas.CDNHealth
		Error string `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Sprintf("the router's answer is not understood: %v", err)
	}
	if answer.Error != "" {
		return nil, answer.Error
	}
	return &answer.CDNHealth, ""
}
