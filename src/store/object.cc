#include "store/object.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/text.h"

namespace loam::store {
namespace {

constexpr std::string_view kCapability = "security.capability";
// linux/capability.h: VFS_CAP_REVISION_MASK, _2, _3 and the sizes of the two structs.
constexpr std::uint32_t kRevisionMask = 0xFF000000;
constexpr std::uint32_t kRevision2 = 0x02000000;
constexpr std::uint32_t kRevision3 = 0x03000000;
constexpr std::size_t kRevision2Bytes = 20;
constexpr std::size_t kRevision3Bytes = 24;

std::uint32_t little_endian(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = (value << 8) | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::string octal(std::uint32_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, "%04o", mode);
  return text;
}

Result<std::string> read_xattr(int fd, const std::string& name) {
  std::vector<char> value(kXattrBytesMax);
  const ssize_t size = ::fgetxattr(fd, name.c_str(), value.data(), value.size());
  if (size < 0) return fail_errno("xattr " + name);
  return std::string(value.data(), static_cast<std::size_t>(size));
}

}  // namespace

std::string object_text(const Meta& meta, const Digest& content) {
  std::string text = "loam-object 1\nfile " + octal(meta.mode) + " " + std::to_string(meta.uid) +
                     " " + std::to_string(meta.gid) + "\n";
  for (const auto& [name, value] : meta.xattrs)
    text += "xattr " + to_hex(std::as_bytes(std::span(name))) + " " +
            to_hex(std::as_bytes(std::span(value))) + "\n";
  return text + "content " + content.hex() + "\n";
}

Digest object_name(const Meta& meta, const Digest& content) {
  return sha256_of(object_text(meta, content));
}

bool is_kept_xattr(std::string_view name) {
  if (name == kCapability) return true;
  return name.starts_with("user.") && !name.starts_with("user.overlay.");
}

Result<std::string> capability_v2(std::string_view value) {
  if (value.size() < 4) return fail(ErrorCode::invalid, "security.capability: too short");
  const std::uint32_t revision = little_endian(value) & kRevisionMask;
  if (revision == kRevision2 && value.size() == kRevision2Bytes) return std::string(value);
  if (revision == kRevision3 && value.size() == kRevision3Bytes) {
    if (little_endian(value.substr(kRevision2Bytes)) != 0)
      return fail(ErrorCode::invalid, "security.capability: belongs to another user namespace");
    std::string text(value.substr(0, kRevision2Bytes));
    text[3] = static_cast<char>(kRevision2 >> 24);
    return text;
  }
  return fail(ErrorCode::invalid, "security.capability: neither version 2 nor 3");
}

Result<Xattrs> read_xattrs(int fd) {
  Xattrs xattrs;
  // Most files have none: one call with a small buffer.
  std::vector<char> names(256);
  ssize_t size = ::flistxattr(fd, names.data(), names.size());
  if (size < 0 && errno == ERANGE) {
    names.resize(kXattrBytesMax);
    size = ::flistxattr(fd, names.data(), names.size());
  }
  if (size < 0 && errno == ENOTSUP) return xattrs;
  if (size < 0) return fail_errno("xattrs");
  for (std::size_t at = 0; at < static_cast<std::size_t>(size);) {
    const std::string name(&names[at]);
    at += name.size() + 1;
    if (!is_kept_xattr(name)) continue;
    std::string value = LOAM_TRY(read_xattr(fd, name));
    if (name == kCapability) value = LOAM_TRY(capability_v2(value));
    xattrs.emplace(name, std::move(value));
  }
  return xattrs;
}

int apply_meta(const Disk& disk, int fd, const Meta& meta) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return errno;
  if (status.st_uid != meta.uid || status.st_gid != meta.gid)
    if (const int error = disk.set_owner(fd, meta.uid, meta.gid); error != 0) return error;
  for (const auto& [name, value] : meta.xattrs)
    if (const int error = disk.set_xattr(fd, name, value); error != 0) return error;
  if (const int error = disk.set_mode(fd, meta.mode); error != 0) return error;
  return disk.set_time(fd);
}

}  // namespace loam::store
