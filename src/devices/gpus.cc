#include "devices/gpus.h"

#include <algorithm>
#include <array>
#include <utility>

namespace loam::devices {
namespace {

constexpr std::array<std::uint64_t, 6> kOfPrograms{13, 31, 43, 45, 68, 109};
constexpr std::array<std::pair<std::uint64_t, const char*>, 9> kMeanings{
    {{48, "double bit ECC error"},
     {61, "internal micro-controller breakpoint"},
     {62, "internal micro-controller halt"},
     {63, "memory rows or pages retired"},
     {64, "retiring memory rows or pages failed"},
     {74, "NVLink error"},
     {79, "GPU has fallen off the bus"},
     {94, "contained memory error"},
     {95, "uncontained memory error"}}};

Json slice_json(const MigSlice& slice) {
  return Json::object({{"uuid", slice.uuid},
                       {"model", slice.model},
                       {"gpu_instance", slice.gpu_instance},
                       {"compute_instance", slice.compute_instance},
                       {"memory_bytes", slice.memory_bytes},
                       {"gpu_access", slice.gpu_access},
                       {"compute_access", slice.compute_access}});
}

Json gpu_json(const Gpu& gpu) {
  Json slices = Json::array();
  for (const MigSlice& slice : gpu.slices) slices.push(slice_json(slice));
  return Json::object({{"index", gpu.index},
                       {"uuid", gpu.uuid},
                       {"model", gpu.model},
                       {"pci_bus_id", gpu.pci_bus_id},
                       {"minor", gpu.minor},
                       {"numa", gpu.numa},
                       {"memory_bytes", gpu.memory_bytes},
                       {"mig", gpu.mig},
                       {"slices", std::move(slices)}});
}

std::uint32_t small(const Json& value) { return static_cast<std::uint32_t>(value.as_int()); }

Gpu gpu_from(const Json& document) {
  Gpu gpu{.index = small(document["index"]),
          .uuid = document["uuid"].as_string(),
          .model = document["model"].as_string(),
          .pci_bus_id = document["pci_bus_id"].as_string(),
          .minor = static_cast<std::int32_t>(document["minor"].as_int(-1)),
          .numa = static_cast<std::int32_t>(document["numa"].as_int(-1)),
          .memory_bytes = static_cast<std::uint64_t>(document["memory_bytes"].as_int()),
          .mig = document["mig"].as_bool()};
  for (const Json& slice : document["slices"].as_array())
    gpu.slices.push_back({.uuid = slice["uuid"].as_string(),
                          .model = slice["model"].as_string(),
                          .gpu_instance = small(slice["gpu_instance"]),
                          .compute_instance = small(slice["compute_instance"]),
                          .memory_bytes = static_cast<std::uint64_t>(slice["memory_bytes"].as_int()),
                          .gpu_access = static_cast<std::int32_t>(slice["gpu_access"].as_int(-1)),
                          .compute_access =
                              static_cast<std::int32_t>(slice["compute_access"].as_int(-1))});
  return gpu;
}

}  // namespace

Json to_json(const GpuInventory& inventory) {
  Json gpus = Json::array(), links = Json::array();
  for (const Gpu& gpu : inventory.gpus) gpus.push(gpu_json(gpu));
  for (const GpuLink& link : inventory.links)
    links.push(Json::object({{"a", link.a}, {"b", link.b}, {"bandwidth", link.bandwidth}}));
  return Json::object({{"driver", inventory.driver},
                       {"cuda", inventory.cuda},
                       {"folder", inventory.folder},
                       {"libraries", Json::array_of(inventory.libraries)},
                       {"gpus", std::move(gpus)},
                       {"links", std::move(links)}});
}

Result<GpuInventory> gpu_inventory_from(const Json& document) {
  GpuInventory inventory{.driver = LOAM_TRY(document.string_at("driver")),
                         .cuda = document["cuda"].as_string(),
                         .folder = document["folder"].as_string(),
                         .libraries = document["libraries"].as_strings()};
  for (const Json& gpu : document["gpus"].as_array()) inventory.gpus.push_back(gpu_from(gpu));
  for (const Json& link : document["links"].as_array())
    inventory.links.push_back(
        {.a = small(link["a"]), .b = small(link["b"]), .bandwidth = small(link["bandwidth"])});
  return inventory;
}

std::string xid_meaning(std::uint64_t xid) {
  for (const auto& [number, meaning] : kMeanings)
    if (number == xid) return meaning;
  return "";
}

bool is_xid_of_programs(std::uint64_t xid) {
  return std::find(kOfPrograms.begin(), kOfPrograms.end(), xid) != kOfPrograms.end();
}

}  // namespace loam::devices
