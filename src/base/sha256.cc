#include "base/sha256.h"

#include <openssl/evp.h>

#include "base/text.h"

namespace loam {

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
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  LOAM_ASSERT(EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::add(std::span<const std::byte> bytes) {
  LOAM_ASSERT(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
}

void Sha256::add(std::string_view text) { add(std::as_bytes(std::span(text.data(), text.size()))); }

Digest Sha256::finish() {
  Digest digest;
  unsigned size = 0;
  LOAM_ASSERT(EVP_DigestFinal_ex(context_->evp, reinterpret_cast<unsigned char*>(digest.bytes.data()),
                                 &size) == 1);
  return digest;
}

Digest sha256_of(std::string_view text) {
  Sha256 hash;
  hash.add(text);
  return hash.finish();
}

}  // namespace loam
