// The program loam-shim: arguments in, one attempt kept to its end, exit status out.
#pragma once

namespace loam::shim {

// 0: the attempt is over and its record written (also where it could not be started). 1: no record
// could be written. 2: usage. 3: the attempt's lock is not held, or its record is there already:
// nothing was started.
int run_shim(int argument_count, char** arguments);

}  // namespace loam::shim
