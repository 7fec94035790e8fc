#include "paella/gpu/sim/sm_array.hpp"

#include <algorithm>
#include <cmath>

#include "paella/error.hpp"

namespace paella::gpu::sim {
namespace {

// Room is computed with reciprocals. The smallest distance of a true quotient from the next
// integer is one unit of shared memory in 1,824 (5e-4), far above this and above rounding.
constexpr float kRoundUp = 1e-4F;
constexpr double kEndSlackNs = 1e-3;

}  // namespace

SmArray::SmArray(const plan::SmLimits& sm, record::Timeline* timeline)
    : capacity_(plan::capacity(sm)),
      timeline_(timeline),
      classes_(sm.count),
      free_warps_(sm.count),
      free_regs_(sm.count),
      free_smem_(sm.count),
      free_blocks_(sm.count),
      room_(sm.count),
      ends_(sm.count) {
  if (sm.blocks > kMaxGroups) {
    throw Error("an SM with " + std::to_string(sm.blocks) + " block slots: at most " +
                std::to_string(kMaxGroups) + " are supported");
  }
  classes_[0].sms = sm.count;
  free_warps_[0] = capacity_.warps;
  free_regs_[0] = capacity_.regs;
  free_smem_[0] = capacity_.smem;
  free_blocks_[0] = capacity_.blocks;
  touched_.reserve(sm.count);
  emptied_.reserve(sm.count);
  if (timeline_) {
    ids_.resize(sm.count);
    for (std::int32_t i = 0; i < sm.count; ++i) ids_[0].push_back(i);
  }
}

void SmArray::touch(std::int32_t c, TimeNs now) {
  Class& k = classes_[c];
  if (k.touched) return;
  k.touched = true;
  if (k.groups > 0) k.virtual_ns += static_cast<double>(now - k.at_ns) * k.rate;
  k.at_ns = now;
  touched_.push_back(c);
}

void SmArray::finish(TimeNs now, std::vector<Finished>& finished) {
  while (ends_.top_time() <= now) {
    const std::int32_t c = ends_.top();
    ends_.set(c, kNever);  // settle() sets the next one
    touch(c, now);
    Class& k = classes_[c];
    // The due group ends whatever rounding left of it.
    k.virtual_ns = std::max(k.virtual_ns, k.group[k.groups - 1].end);
    while (k.groups > 0 && k.group[k.groups - 1].end <= k.virtual_ns + kEndSlackNs) {
      const Group& g = k.group[--k.groups];
      const auto blocks = static_cast<float>(g.blocks);
      free_warps_[c] += blocks * g.cost->block.warps;
      free_regs_[c] += blocks * g.cost->block.regs;
      free_smem_[c] += blocks * g.cost->block.smem;
      free_blocks_[c] += blocks;
      k.load -= g.blocks * g.cost->load;
      const std::int64_t ended = std::int64_t{g.blocks} * k.sms;
      if (!finished.empty() && finished.back().run == g.run) {
        finished.back().blocks += ended;
      } else {
        finished.push_back({g.run, ended});
      }
      if (timeline_) {
        for (std::int32_t sm : ids_[c]) {
          timeline_->blocks.push_back({g.run, sm, g.blocks, g.started_ns, now});
        }
      }
    }
  }
}

std::int64_t SmArray::place(std::int32_t run, const KernelCost& cost, double work_ns,
                            std::int64_t blocks, TimeNs now, Where where) {
  const bool everywhere = where == Where::kEverywhere;
  const auto candidates = static_cast<std::int32_t>(everywhere ? active_ : touched_.size());
  const auto candidate = [&](std::int32_t i) { return everywhere ? i : touched_[i]; };
  const auto room = [&](std::int32_t c) {
    const float fit = std::min(
        std::min(cost.inv_warps > 0 ? free_warps_[c] * cost.inv_warps : capacity_.blocks,
                 cost.inv_regs > 0 ? free_regs_[c] * cost.inv_regs : capacity_.blocks),
        std::min(cost.inv_smem > 0 ? free_smem_[c] * cost.inv_smem : capacity_.blocks,
                 free_blocks_[c]));
    return static_cast<std::int32_t>(fit + kRoundUp);
  };

  // How many SMs have room for exactly so many blocks.
  std::array<std::int64_t, kMaxGroups + 1> sms_with{};
  std::int32_t level = 0;
  for (std::int32_t i = 0; i < candidates; ++i) {
    const std::int32_t c = candidate(i);
    room_[i] = room(c);
    sms_with[room_[i]] += classes_[c].sms;
    level = std::max(level, room_[i]);
  }

  // One block at a time to the roomiest SM fills all SMs down to a common level of room; the last
  // blocks reach only some of the SMs at that level.
  std::int64_t left = blocks;
  std::int64_t roomiest = sms_with[level];
  while (level > 0 && left >= roomiest) {
    left -= roomiest;
    roomiest += sms_with[--level];
  }
  std::int64_t last = level > 0 ? left : 0;
  for (std::int32_t i = 0; i < candidates; ++i) {
    if (room_[i] == 0 || room_[i] < level) continue;
    std::int32_t c = candidate(i);
    const std::int32_t each = room_[i] - level;
    const auto one_more = static_cast<std::int32_t>(std::min<std::int64_t>(last, classes_[c].sms));
    last -= one_more;
    if (each == 0 && one_more == 0) continue;
    touch(c, now);
    if (one_more > 0 && one_more < classes_[c].sms) {
      const std::int32_t rest = split(c, classes_[c].sms - one_more);
      if (each > 0) add(rest, {work_ns, &cost, run, each, now});
    }
    add(c, {work_ns, &cost, run, each + (one_more > 0), now});
  }
  return level > 0 ? blocks : blocks - left;
}

std::int32_t SmArray::split(std::int32_t c, std::int32_t sms) {
  const std::int32_t to = active_++;
  Class& from = classes_[c];
  Class& k = classes_[to];
  k.groups = from.groups;
  k.load = from.load;
  k.rate = from.rate;
  k.virtual_ns = from.virtual_ns;
  k.at_ns = from.at_ns;
  std::copy_n(from.group.begin(), from.groups, k.group.begin());
  free_warps_[to] = free_warps_[c];
  free_regs_[to] = free_regs_[c];
  free_smem_[to] = free_smem_[c];
  free_blocks_[to] = free_blocks_[c];
  k.sms = sms;
  from.sms -= sms;
  k.touched = true;
  touched_.push_back(to);
  if (timeline_) {
    ids_[to].assign(ids_[c].end() - sms, ids_[c].end());
    ids_[c].resize(ids_[c].size() - sms);
  }
  return to;
}

// `group.end` counts from now.
void SmArray::add(std::int32_t c, Group group) {
  Class& k = classes_[c];
  const KernelCost& cost = *group.cost;
  const auto n = static_cast<float>(group.blocks);
  free_warps_[c] -= n * cost.block.warps;
  free_regs_[c] -= n * cost.block.regs;
  free_smem_[c] -= n * cost.block.smem;
  free_blocks_[c] -= n;
  k.load += group.blocks * cost.load;
  group.end += k.virtual_ns;
  std::int32_t at = k.groups++;
  for (; at > 0 && k.group[at - 1].end < group.end; --at) k.group[at] = k.group[at - 1];
  k.group[at] = group;
  groups_placed_ += 1;
}

void SmArray::settle(TimeNs now) {
  for (std::int32_t c : touched_) {
    Class& k = classes_[c];
    k.touched = false;
    if (k.groups == 0) {
      k.load = 0;
      k.rate = 1;
      k.virtual_ns = 0;
      ends_.set(c, kNever);
      emptied_.push_back(c);
      continue;
    }
    const double slowed = slowdown(k.load);
    k.rate = 1 / slowed;
    const double left_ns = (k.group[k.groups - 1].end - k.virtual_ns) * slowed;
    ends_.set(c, now + std::max<TimeNs>(1, static_cast<TimeNs>(std::ceil(left_ns))));
  }
  touched_.clear();
  if (!emptied_.empty()) merge_empty();
}

void SmArray::merge_empty() {
  // An empty class that was not touched may exist as well; emptied_ then holds the others.
  std::int32_t keep = emptied_.front();
  for (std::int32_t c = 0; c < active_; ++c) {
    if (classes_[c].groups == 0) {
      keep = c;
      break;
    }
  }
  std::sort(emptied_.begin(), emptied_.end(), std::greater<>());
  for (std::int32_t c : emptied_) {
    if (c == keep) continue;
    classes_[keep].sms += classes_[c].sms;
    if (timeline_) {
      ids_[keep].insert(ids_[keep].end(), ids_[c].begin(), ids_[c].end());
      std::sort(ids_[keep].begin(), ids_[keep].end());
    }
    move_class(--active_, c);
  }
  emptied_.clear();
}

void SmArray::move_class(std::int32_t from, std::int32_t to) {
  if (from != to) {
    Class& a = classes_[from];
    Class& b = classes_[to];
    b.sms = a.sms;
    b.groups = a.groups;
    b.touched = a.touched;
    b.load = a.load;
    b.rate = a.rate;
    b.virtual_ns = a.virtual_ns;
    b.at_ns = a.at_ns;
    std::copy_n(a.group.begin(), a.groups, b.group.begin());
    free_warps_[to] = free_warps_[from];
    free_regs_[to] = free_regs_[from];
    free_smem_[to] = free_smem_[from];
    free_blocks_[to] = free_blocks_[from];
    ends_.set(to, ends_.time(from));
    ends_.set(from, kNever);
    if (timeline_) ids_[to].swap(ids_[from]);
  }
  classes_[from].groups = 0;
  classes_[from].touched = false;
  if (timeline_) ids_[from].clear();
}

std::vector<SmArray::Usage> SmArray::usage() const {
  std::vector<Usage> all;
  for (std::int32_t c = 0; c < active_; ++c) {
    all.push_back({classes_[c].sms, static_cast<std::int32_t>(capacity_.warps - free_warps_[c]),
                   static_cast<std::int32_t>(capacity_.regs - free_regs_[c]),
                   static_cast<std::int32_t>(capacity_.smem - free_smem_[c]),
                   static_cast<std::int32_t>(capacity_.blocks - free_blocks_[c])});
  }
  return all;
}

}  // namespace paella::gpu::sim
