// Package change changes a configuration file from afar, so that a mistake locks nobody out: earlier versions are kept, and a
// change is on trial until the node has proved to be as well with it as before. One that does not prove well in time, or keeps the program
// from starting, is taken back.
//
// In the directory of the history are the versions, N.hujson, what is known of them, versions.json, and while a change is on
// trial trial.json. The order of writing is the version, the trial, the file itself; so after a loss of power in between there is either no
// trial, or one whose change is not in the file, which is then forgotten.
package change
