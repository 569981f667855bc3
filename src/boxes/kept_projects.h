// Where a box keeps what is pushed to it, in its user's cache:
//
//   $XDG_CACHE_HOME/loam/projects/KEY/NAME       the project, as it is submitted
//   $XDG_CACHE_HOME/loam/pushes/KEY/lock         held from a push until its submission is answered
//                                  /origin.json  where it came from; which loam.lock was pushed
//                                  /incoming/    files of a push that is under way
//
// KEY stands for the client's machine, user and folder (project_key), NAME is the folder's own.
#pragma once

#include <string>

#include "base/result.h"

namespace loam::boxes {

std::string home_folder();                   // $HOME, else the user database's
Result<std::string> kept_projects_folder();  // "…/loam"

struct KeptProject {
  std::string folder;  // of the project
  std::string push;    // of the push
};
// Checks key and name, which come from the client. Pure.
Result<KeptProject> kept_project(const std::string& top, const std::string& key,
                                 const std::string& name);

// 32 hex digits of this machine, its user and the folder (absolute, without links).
std::string project_key(const std::string& folder);
// The folder's last component; "project" for "/".
std::string project_name(const std::string& folder);

}  // namespace loam::boxes
