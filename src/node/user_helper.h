// What must be done with a user's own rights: reading the project's folder, writing its loam.lock. `loam __serve` is
// the process that forks for user_child.h; each of its children takes the user's ids and does one thing:
//
//   __walk FOLDER         stdin {"data":[patterns],"skip":[paths]} → stdout snapshot stream
//   __match FOLDER        stdin {"patterns":[…]}                   → stdout {"matched":[…]}
//   __fingerprint FOLDER  stdin {"sources":[{name,pattern,mode}]}  → stdout {name: fingerprint}
//   __read FOLDER NAME                                             → stdout the file's bytes
//   __write-lock FOLDER   stdin the new content of loam.lock
//   __owner FOLDER                                                 → stdout the owner's uid
//   __import FOLDER                                                → stdout snapshot stream of a model
//
// Failure: exit status 1 and {"code","text"} on standard error. Nothing here has rights that the user lacks.
#pragma once

#include <string_view>

namespace loam::node {

// argv[1] is the word.
bool is_user_helper(std::string_view word);
int user_helper_main(int argc, char** argv);

}  // namespace loam::node
