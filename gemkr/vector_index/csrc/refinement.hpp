// When better scores need no longer be asked for: what they added to the scores so far says what is likely to come.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <unordered_set>
#include <vector>

namespace gemkr {

// Mean and deviation of what better scores added (Welford 1962), each better score counted once, as copies of a document say it once; and
// the best `wanted` of them.
class Refinement {
  public:
    explicit Refinement(std::size_t wanted) : wanted_(wanted) {}

    void learn(const float* better, const float* scores, std::size_t n) {
        for (std::size_t i = 0; i < n; ++i) {
            if (best_.size() < wanted_) {
                best_.push_back(better[i]);
                std::push_heap(best_.begin(), best_.end(), std::greater<>());
            } else if (wanted_ && better[i] > best_.front()) {
                std::pop_heap(best_.begin(), best_.end(), std::greater<>());
                best_.back() = better[i];
                std::push_heap(best_.begin(), best_.end(), std::greater<>());
            }
            if (!seen_.insert(better[i]).second) continue;
            const double gain = double{better[i]} - double{scores[i]}, off = gain - mean_;
            mean_ += off / static_cast<double>(seen_.size());
            squares_ += off * (gain - mean_);
        }
    }

    // Whether a document of this score is not likely to come among the best: with `sure` deviations more than the mean, where at least
    // `known` better scores are.
    bool settled(double score, double sure, std::size_t known) const {
        if (best_.size() < wanted_ || seen_.size() < std::max<std::size_t>(known, 1)) return false;
        if (!wanted_) return true;
        return score + mean_ + sure * std::sqrt(squares_ / static_cast<double>(seen_.size())) < double{best_.front()};
    }

  private:
    std::size_t wanted_;
    std::vector<float> best_;  // a heap, its least one in front
    std::unordered_set<float> seen_;
    double mean_ = 0, squares_ = 0;
};

}  // namespace gemkr
