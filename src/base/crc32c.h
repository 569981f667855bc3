// CRC-32C (Castagnoli, RFC 3720 appendix B.4): guards log records against torn and rotten bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace loam {

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0);

}  // namespace loam
