#pragma once

#include "base/json.h"

namespace loam::engines {

// Of this program's environment what leads to package registries: proxies, certificates, pip's
// settings.
Json way_to_registries();

}  // namespace loam::engines
