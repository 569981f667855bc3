// The management library's seam against recordings of real drivers (tests/nvml). No GPU is needed, and
// none is asked: the library is tests/nvml/fake_nvml.c.
#include "devices/nvml.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "devices/driver_files.h"

namespace loam::devices {
namespace {

class NvmlTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-nvml-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(folder_)); }

  void write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(write_file_atomic(folder_ + "/" + name, text, {.durable = false}));
  }
  // A library of its own for each: it looks for what it says in its folder.
  std::unique_ptr<Nvml> load(const std::string& recording, const std::string& more = "") {
    const auto text = read_file(LOAM_SOURCE_DIR "/tests/nvml/recordings/" + recording);
    EXPECT_TRUE(text) << recording;
    write("recording", more + text.value_or(""));  // the first of a key counts
    const auto library = read_file(program_folder() + "/../tests/fake-nvml.so");
    EXPECT_TRUE(library) << library.error().text;
    write("libnvidia-ml.so.1", library.value_or(""));
    auto nvml = Nvml::load(folder_ + "/libnvidia-ml.so.1");
    EXPECT_TRUE(nvml) << nvml.error().text;
    return nvml ? std::move(*nvml) : nullptr;
  }

  std::string folder_;
};

std::uint32_t bandwidth(const GpuInventory& inventory, std::uint32_t a, std::uint32_t b) {
  for (const GpuLink& link : inventory.links)
    if (link.a == a && link.b == b) return link.bandwidth;
  return 0;
}

TEST_F(NvmlTest, EightGpusWithTheirNvlinks) {
  const auto nvml = load("v100x8");
  ASSERT_NE(nvml, nullptr);
  const auto found = nvml->inventory();
  ASSERT_TRUE(found) << found.error().text;
  EXPECT_EQ(found->driver, "580.173.02");
  EXPECT_EQ(found->cuda, "13.0");
  ASSERT_EQ(found->gpus.size(), 8u);
  EXPECT_EQ(found->gpus[5].uuid, "GPU-72ed3bc4-b1e1-12c5-3709-2b564db7ce0b");
  EXPECT_EQ(found->gpus[5].model, "Tesla V100-SXM2-32GB");
  EXPECT_EQ(found->gpus[5].memory_bytes, 32ull << 30);
  EXPECT_EQ(found->gpus[5].numa, 1);
  EXPECT_EQ(found->gpus[5].minor, 5);
  EXPECT_EQ(found->gpus[5].pci_bus_id, "00000000:89:00.0");
  EXPECT_FALSE(found->gpus[5].mig);
  EXPECT_EQ(bandwidth(*found, 0, 1), 1 * kNvlinkBandwidth);
  EXPECT_EQ(bandwidth(*found, 0, 3), 2 * kNvlinkBandwidth);
  EXPECT_EQ(bandwidth(*found, 0, 5), 0u);
  EXPECT_EQ(found->links.size(), 16u);  // of 28 pairs
  const auto again = gpu_inventory_from(to_json(*found));
  ASSERT_TRUE(again);
  EXPECT_EQ(to_json(*again), to_json(*found));
}

TEST_F(NvmlTest, SwitchesJoinAllAndPcieCountsByItsTree) {
  const auto nvml = load("v100x8",
                         "gpus 4\n0.nvlinks switch switch\n1.nvlinks switch switch switch\n"
                         "2.nvlinks none\n3.nvlinks none\n2.level.3 10\n");
  ASSERT_NE(nvml, nullptr);
  const auto found = nvml->inventory();
  ASSERT_TRUE(found);
  EXPECT_EQ(bandwidth(*found, 0, 1), 2 * kNvlinkBandwidth);
  EXPECT_EQ(bandwidth(*found, 0, 2), 0u);  // through the processors
  EXPECT_EQ(bandwidth(*found, 2, 3), 30u);
}

TEST_F(NvmlTest, WhatADriverDoesNotSayIsAbsent) {
  const auto nvml = load("v100x8");
  ASSERT_NE(nvml, nullptr);
  const Json state = nvml->states()["GPU-2b5fbbe0-802e-d2fd-c501-69ec52b11bb7"];
  EXPECT_EQ(state.dump(),
            R"({"memory_used_bytes":0,"power_limit_mw":275000,"processes":[]})");
}

TEST_F(NvmlTest, ReadingsProcessesAndALostGpu) {
  auto nvml = load("a100", "0.processes 11 12\n0.graphics 13\n");
  ASSERT_NE(nvml, nullptr);
  const std::string uuid = "GPU-00000000-0000-0000-0000-000000000000";
  const Json state = nvml->states()[uuid];
  EXPECT_EQ(state["processes"].dump(), "[11,12,13]");
  EXPECT_EQ(state["temperature_c"].as_int(), 33);
  EXPECT_EQ(state["power_mw"].as_int(), 49680);
  EXPECT_EQ(state["sm_clock_mhz"].as_int(), 210);
  EXPECT_EQ(state["ecc_uncorrected"].as_int(-1), 0);
  EXPECT_FALSE(state.has("lost"));
  const auto text = read_file(folder_ + "/recording");
  write("recording", "0.lost 1\n" + *text);
  EXPECT_EQ(nvml->states()[uuid]["lost"].as_string(), "GPU is lost");
}

TEST_F(NvmlTest, SlicesAndWhoMayUseThem) {
  ASSERT_TRUE(make_folders(folder_ + "/gpu0/mig/gi2/ci0"));
  write("gpu0/mig/gi2/access", "DeviceFileMinor: 21\nDeviceFileMode: 292\n");
  write("gpu0/mig/gi2/ci0/access", "DeviceFileMinor: 22\nDeviceFileMode: 292\n");
  ASSERT_EQ(::setenv("LOAM_NVIDIA_CAPABILITIES", folder_.c_str(), 1), 0);
  const auto nvml = load("a100-mig");
  ASSERT_NE(nvml, nullptr);
  const auto found = nvml->inventory();
  ::unsetenv("LOAM_NVIDIA_CAPABILITIES");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->gpus[0].slices.size(), 2u);
  const MigSlice& slice = found->gpus[0].slices[0];
  EXPECT_EQ(slice.model, "NVIDIA A100-SXM4-40GB MIG 3g.20gb");
  EXPECT_EQ(slice.memory_bytes, 19968ull << 20);
  EXPECT_EQ(slice.gpu_access, 21);
  EXPECT_EQ(slice.compute_access, 22);
  EXPECT_EQ(found->gpus[0].slices[1].gpu_access, -1);  // the driver names none
  EXPECT_TRUE(nvml->states().has(slice.uuid));
}

TEST_F(NvmlTest, XidErrorsComeOneByOne) {
  const auto nvml = load("v100x8");
  ASSERT_NE(nvml, nullptr);
  write("events", "5 79\n0 94 2\n");
  auto xid = nvml->wait_for_xid(std::chrono::seconds(10));
  ASSERT_TRUE(xid && *xid);
  EXPECT_EQ((*xid)->xid, 79u);
  EXPECT_EQ((*xid)->uuid, "GPU-72ed3bc4-b1e1-12c5-3709-2b564db7ce0b");
  EXPECT_FALSE((*xid)->gpu_instance);
  xid = nvml->wait_for_xid(std::chrono::seconds(10));
  ASSERT_TRUE(xid && *xid);
  EXPECT_EQ((*xid)->gpu_instance, 2u);
  xid = nvml->wait_for_xid(std::chrono::milliseconds(1));
  ASSERT_TRUE(xid);
  EXPECT_FALSE(*xid);
}

TEST_F(NvmlTest, NoLibraryNoDriverAndAnotherLibrary) {
  EXPECT_EQ(Nvml::load(folder_ + "/none.so").error().code, ErrorCode::not_found);
  EXPECT_EQ(Nvml::load("libc.so.6").error().code, ErrorCode::invalid);
  const auto library = read_file(program_folder() + "/../tests/fake-nvml.so");
  ASSERT_TRUE(library);
  write("libnvidia-ml.so.1", *library);  // with no recording beside it
  const auto loaded = Nvml::load(folder_ + "/libnvidia-ml.so.1");
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().text, "NVML: Driver Not Loaded");
}

TEST_F(NvmlTest, LibrariesAreThoseOfTheDriversVersion) {
  for (const char* name : {"libcuda.so.580.173.02", "libnvidia-ptxjitcompiler.so.580.173.02",
                           "libnvidia-egl-wayland.so.1.1.13", "libcudart.so.12", "libc.so.6"})
    write(name, "");
  ASSERT_EQ(::symlink("libcuda.so.580.173.02", (folder_ + "/libcuda.so.1").c_str()), 0);
  ASSERT_EQ(::symlink("nowhere.so.580.173.02", (folder_ + "/libnvidia-gone.so.1").c_str()), 0);
  auto names = driver_libraries(folder_, "580.173.02");
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"libcuda.so.1", "libcuda.so.580.173.02",
                                             "libnvidia-ptxjitcompiler.so.580.173.02"}));
}

}  // namespace
}  // namespace loam::devices
