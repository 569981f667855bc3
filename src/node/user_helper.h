// What must be done with a user's own rights: reading the project's folder, writing its loam.lock.
// The node starts its own program again with the user's ids (user_child.h); this is that child's
// side.
//
//   loam __walk FOLDER         stdin {"data":[patterns],"skip":[paths]} → stdout snapshot stream
//   loam __match FOLDER        stdin {"patterns":[…]}                   → stdout {"matched":[…]}
//   loam __fingerprint FOLDER  stdin {"sources":[{name,pattern,mode}]}  → stdout {name:
//   fingerprint} loam __read FOLDER NAME                                             → stdout the
//   file's bytes loam __write-lock FOLDER   stdin the new content of loam.lock loam __owner FOLDER
//   → stdout the owner's uid loam __import FOLDER                                                →
//   stdout a tar stream
//
// Failure: exit status 1 and {"code","text"} on standard error. Nothing here has rights that the
// user lacks.
#pragma once

#include <string_view>

namespace loam::node {

// argv[1] is the subcommand.
bool is_user_helper(std::string_view subcommand);
int user_helper_main(int argc, char** argv);

}  // namespace loam::node
