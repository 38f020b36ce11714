// Package history keeps what the node did over the last ten minutes, in steps of 2 s, and over the last day, in steps of
// 2 min: rates made from counters, and levels. It takes memory of a fixed size, about 32 KiB, however long the node runs.
//
// Steps are counted by the monotonic clock, so a clock that is set neither stretches the past nor tears holes into it; times of
// day are put to it when somebody looks. A counter that begins anew counts from 0; one that is not known gives a gap, as
// does time that nobody measured. The day survives restarts: it is written to a file every hour and at a clean stop.
package history
