// What this host can do for a sandbox, probed once by really trying it in a child.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace loam::sandbox {

struct Guard {
  std::string
      name;  // namespaces, user_namespaces, overlay, idmap, seccomp, memory, cpu, processes,
             // kill (cgroup.kill), devices (device program), network, no_new_privs
  bool present = false;
  std::string finding;  // "cgroup v1 memory at /sys/fs/cgroup/memory", or what is missing
  std::string mend;     // how to get it, "" where present
};

// `parents_json`: the node's cgroup parents, so that what is probed is what will be used.
std::vector<Guard> probe_guards(const Json& cgroup_parents);
Json to_json(const std::vector<Guard>& guards);

}  // namespace loam::sandbox
