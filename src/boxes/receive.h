// `loam __receive`: keeps pushed projects on a box, with the rights of the user who logged in
// there. Messages come over the socket that is its standard input (message.h,
// docs/formats/bridge.md):
//
//   begin {key, name}  ▶ {folder, lock, pushed_lock}      takes the project's lock
//   push {entries}     ▶ {want}, then the bytes of each wanted file ▶ {done}
//   remove             ▶ {}
//
// Files arrive beside the project and are checked there; only when all are whole are they moved
// into it, so that a push that breaks off leaves the project as it was, or on the way to what the
// next push makes of it: nothing is submitted before `done`. The lock is held until the connection
// ends, which is after the submission's answer, or for 10 minutes of silence. Trust: all that comes
// is foreign; paths are checked (manifest.h) and opened beneath the project's folder, through no
// link.
#pragma once

namespace loam::boxes {

int receive_main();

}  // namespace loam::boxes
