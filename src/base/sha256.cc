#include "base/sha256.h"

// The digest itself and not EVP, which OpenSSL 3 would rather have: EVP links all of libcrypto, 2 MiB of code and
// 350 KB of tables that each start relocates page by page (0.2 ms of 1.2 for every `loam`; 2 cores, 2026-11-25). The
// code that hashes is the same.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <vector>

#include "base/fd.h"
#include "base/text.h"

namespace loam {
namespace {

constexpr std::size_t kReadBytes = 1u << 20;

}  // namespace

std::string Digest::hex() const { return to_hex(bytes); }
std::string Digest::short_hex() const { return hex().substr(0, 12); }
std::string Digest::text() const { return "sha256:" + hex(); }

Result<Digest> Digest::parse(std::string_view text) {
  if (text.starts_with("sha256:")) text.remove_prefix(7);
  const auto bytes = LOAM_TRY(from_hex(text));
  Digest digest;
  if (bytes.size() != digest.bytes.size())
    return fail(ErrorCode::invalid, "a SHA-256 digest has 64 hex digits");
  std::copy(bytes.begin(), bytes.end(), digest.bytes.begin());
  return digest;
}

struct Sha256::Context {
  SHA256_CTX state;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  LOAM_ASSERT(SHA256_Init(&context_->state) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::add(std::span<const std::byte> bytes) {
  LOAM_ASSERT(SHA256_Update(&context_->state, bytes.data(), bytes.size()) == 1);
}

void Sha256::add(std::string_view text) { add(std::as_bytes(std::span(text.data(), text.size()))); }

Digest Sha256::finish() {
  Digest digest;
  LOAM_ASSERT(SHA256_Final(reinterpret_cast<unsigned char*>(digest.bytes.data()), &context_->state) == 1);
  return digest;
}

Digest sha256_of(std::string_view text) {
  Sha256 hash;
  hash.add(text);
  return hash.finish();
}

Result<Digest> sha256_of_file(int fd) {
  Sha256 hash;
  std::vector<std::byte> buffer(kReadBytes);
  for (;;) {
    const std::size_t count = LOAM_TRY(read_full(fd, buffer));
    hash.add(std::span(buffer).first(count));
    if (count < buffer.size()) return hash.finish();
  }
}

}  // namespace loam
