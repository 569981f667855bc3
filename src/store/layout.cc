#include "store/layout.h"

#include <algorithm>

#include "base/files.h"
#include "store/listing.h"

namespace loam::store {

std::uint64_t PinBook::add() {
  const MutexLock lock(mutex_);
  live_.insert(next_);
  return next_++;
}

void PinBook::drop(std::uint64_t pin) {
  const MutexLock lock(mutex_);
  live_.erase(pin);
  if (live_.empty()) {
    puts_.clear();
  } else {
    std::erase_if(puts_,
                  [oldest = *live_.begin()](const auto& put) { return put.second <= oldest; });
  }
}

void PinBook::note_put(const Digest& digest) {
  const MutexLock lock(mutex_);
  if (!live_.empty()) puts_[digest] = next_;
}

bool PinBook::holds(const Digest& digest) const {
  const MutexLock lock(mutex_);
  return puts_.contains(digest);
}

std::string Layout::spread(const Digest& digest) {
  const std::string hex = digest.hex();
  return hex.substr(0, 2) + "/" + hex.substr(2);
}

Result<std::string> Layout::read_listing(const Digest& digest) const {
  auto text = read_file(listing_path(digest), kListingBytesMax);
  if (!text) return in_context("tree " + digest.short_hex(), text.error());
  if (sha256_of(*text) != digest)
    return fail(ErrorCode::corrupt,
                "tree " + digest.short_hex() +
                    ": its listing no longer hashes to its name; see `loam store verify`");
  return text;
}

TempGuard::~TempGuard() { (void)remove_tree(layout_.path + "/temp/" + name_); }

std::string network_filesystem(long type) {
  switch (static_cast<unsigned long>(type) & 0xFFFFFFFFul) {
    case 0x6969:
      return "NFS";
    case 0xFF534D42:
      return "CIFS";
    case 0xFE534D42:
      return "SMB2";
    case 0x517B:
      return "SMB";
    case 0x5346414F:
      return "AFS";
    case 0x00C36400:
      return "Ceph";
    case 0x01021997:
      return "9p";
    case 0x0BD00BD0:
      return "Lustre";
    case 0x47504653:
      return "GPFS";
    case 0x65735546:
      return "FUSE";  // sshfs and others: their links and syncs keep no promise
    default:
      return "";
  }
}

}  // namespace loam::store
