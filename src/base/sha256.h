// SHA-256 and CRC-32C. A Digest is how every stored thing is named.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace loam {

struct Digest {
  std::array<std::byte, 32> bytes{};

  std::string hex() const;         // 64 lower-case digits
  std::string short_hex() const;   // the first 12: for people
  std::string text() const;        // "sha256:" and hex
  auto operator<=>(const Digest&) const = default;

  // Accepts 64 hex digits, with or without "sha256:".
  static Result<Digest> parse(std::string_view text);
};

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);
  // May be called once.
  Digest finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

Digest sha256_of(std::string_view text);
// From the descriptor's position to its end.
Result<Digest> sha256_of_file(int fd);

}  // namespace loam
