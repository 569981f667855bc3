// The parts of a root filesystem that builds and jobs share: the host's files read-only, /dev,
// masks. All of it happens in a fresh mount namespace, below a stage that only this process sees.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/devices.h"
#include "sandbox/mount.h"

namespace loam::sandbox {

// Every top-level entry of / below `folder` (a tmpfs of ours), recursively bound and read-only;
// symlinks made again. proc, sys, dev, tmp and run are left empty: their content is made, not
// shared.
Result<void> fill_host_root(const std::string& folder);

// null, zero, full, random, urandom, tty and the usual links in `folder`, a tmpfs that allows
// devices. Made where the kernel lets us, else bound from the host's /dev (rootless).
Result<void> fill_dev(const std::string& folder);

// The assigned devices at their places in such a folder. Made where the kernel lets us: then the job
// may open them. Else bound from the host, whose rights hold.
Result<void> add_devices(const std::string& folder, const std::vector<DeviceNode>& devices);

// A folder hidden under an empty one, a file under an empty file. What is not there needs no
// hiding.
Result<void> mask(int root, const std::string& path, const std::string& empty_folder,
                  const std::string& empty_file);

// The paths below /proc and /sys that tell about, or steer, the host (the list is that of the OCI
// runtimes).
extern const std::vector<std::string> kMaskedPaths;
extern const std::vector<std::string> kReadOnlyPaths;

// lo up: a network namespace starts with it down.
Result<void> bring_loopback_up();

}  // namespace loam::sandbox
