#include "store/owners.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "base/files.h"
#include "base/text.h"

namespace loam::store {

Owners owners_for(std::string_view uid_map, uid_t uid, gid_t gid) {
  std::vector<std::string> fields;
  for (const std::string& line : split(uid_map, '\n'))
    for (const std::string& word : split(line, ' '))
      if (!word.empty()) fields.push_back(word);
  const bool alone = fields.size() == 3 && fields[0] != "0" && fields[2] == "1";
  return {.alone = alone, .uid = uid, .gid = gid};
}

const Owners& owners() {
  static const Owners known =
      owners_for(read_file("/proc/self/uid_map").value_or(""), ::geteuid(), ::getegid());
  return known;
}

}  // namespace loam::store
