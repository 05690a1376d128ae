package reviewer

import "os"

// interrupt asks a program to end; "go run" passes it on, and would leave its program behind if killed.
var interrupt = os.Interrupt
