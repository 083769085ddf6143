# What a student learns from decision pairs, by whose pairs they are and how their points were chosen, for one seed:
# `make mining SEED=0`, on the profiles in which deciding matters:
#
#   python -m coa.params conf/microworld_priced.yaml conf/decisions.yaml
#   make mining SEED=0 SPLIT=validation NUM_QUESTIONS=600
#
# SFT 2 from the base writes rollouts on train questions and forks them itself, on both arms; SFT 1 then trains decisions
# from it. All rows have the same number of pairs and of steps. Rows, seeds and questions are made and skipped as in
# table.mk, whose first rows are the base and SFT 2. Calls are kept in .journal/, so a killed run goes on where it stopped.

# Train questions that the student is asked, and the most continuations of an arm at a point.
MINED_QUESTIONS ?= 700
CONTINUATIONS ?= 8
# Pairs to train on: where a row has fewer (the summary of curate.student_pairs says so), lower it for all.
MINED_PAIRS ?= 200
# Steps on them, and how: RECIPE holds further settings of train.sft1.
DECISION_STEPS ?= 120
RATE ?= 2e-4
RECIPE ?= 'train.sft1.trajectories=[data/assemble/coa,data/assemble/cot]' train.sft1.likelihood_share=0.75
# Of the control: as many trajectories as stand beside the pairs, about 11 a step.
PLAIN_MINING_STEPS ?= 127

mined = data/mining/s$(SEED)
as_student = 'prompts.coa=$${train.prompt}' 'prompts.cot=$${train.prompt}' \
  'teacher.chat_template=$${train.chat_template}' teacher.policy=local \
  teacher.local.model=data/train/sft2_only-s$(SEED) \
  'teacher.local.batch_size=$${evaluate.policy.local.batch_size}' \
  'teacher.concurrency=$${evaluate.policy.concurrency}' \
  'rollout.max_context_tokens=$${train.max_context_tokens}'

$(mined)/sample/coa.parquet: $(call trained,sft2_only)
	python -m synth.sample mode=coa assignment=same num_questions=$(MINED_QUESTIONS) num_rollouts=1 seed=1 \
	  out=$(mined)/sample $(as_student)

$(mined)/grade.parquet: $(mined)/sample/coa.parquet
	python -m curate.grade 'samples=[$(mined)/sample]' 'modes=[coa]' out=$@

$(mined)/analyse.parquet: $(mined)/grade.parquet
	python -m curate.analyse graded=$< out=$@

# $(1) how points are chosen
define mine
$(mined)/$(1)/pairs.parquet: $(mined)/analyse.parquet
	python -m curate.branch graded=$(mined)/grade.parquet analysed=$$< out=$(mined)/$(1) policy=null prompts=null \
	  arms=both points=$(1) num_continuations=$(CONTINUATIONS) 'search_price=$$$${evaluate.search_price}' \
	  $(subst $$,$$$$,$(as_student))
$(call pair_set,$(1),$(mined)/grade.parquet,$(mined)/$(1))
endef

# $(1) the row's name, $(2) graded trajectories, $(3) the folder of pairs of them
define pair_set
$(mined)/$(1)-set/validation.parquet: $(3)/pairs.parquet
	python -m curate.student_pairs graded=$(2) mined=$(3) out=$(mined)/$(1)-set \
	  pipeline.student_pairs=$(MINED_PAIRS)
endef

# $(1) the row's name
define decide
$(call chain,mined_$(1),sft1,sft2_only,train.sft1.pairs=$(mined)/$(1)-set \
  train.sft1.arguments.learning_rate=$(RATE) train.sft1.arguments.max_steps=$(DECISION_STEPS) $(RECIPE))
$(call trained,mined_$(1)): $(mined)/$(1)-set/validation.parquet
$(call result,mined_$(1),mined_$(1),coa)
endef

# The first two rows are those of table.mk: SFT 2, and as much plain SFT in the place of an SFT 1 before it.
RESULTS := results/evaluate/sft2_only-s$(SEED).json results/evaluate/plain_sft2-s$(SEED).json
$(foreach points,blame cue random,$(eval $(call mine,$(points))))
# The teacher's pairs, whose points are those of the section `branch`.
data/branch/pairs.parquet: | sets
$(eval $(call pair_set,teacher,data/grade.parquet,data/branch))
$(foreach row,blame cue random teacher,$(eval $(call decide,$(row))))
# The pairs of blame, but in half of them the two sides have changed places.
$(mined)/shuffled-set/validation.parquet: $(mined)/blame/pairs.parquet
	python -m curate.student_pairs graded=$(mined)/grade.parquet mined=$(mined)/blame \
	  out=$(mined)/shuffled-set pipeline.student_pairs=$(MINED_PAIRS) shuffles_sides=true
$(eval $(call decide,shuffled))
# RL with all tools of the world, from SFT 2.
$(eval $(call chain,tools_rl2,rl2,sft2_only,train.rl2.arguments.max_steps=$(RL_STEPS)))
$(eval $(call result,tools_rl2,tools_rl2,coa))
# The pairs replaced by nothing: SFT 2 goes on with the trajectories that stand beside them.
$(eval $(call chain,mined_none,sft2,sft2_only,train.sft2.arguments.learning_rate=$(RATE) \
  train.sft2.arguments.max_steps=$(PLAIN_MINING_STEPS)))
$(eval $(call result,mined_none,mined_none,coa))


# Does SFT 2 teach the timing again, whatever SFT 1 taught? Trajectories whose timing of searches is random tell: their
# teacher remembers every fact and searches for as many as the usual one does, whichever they are.
SEARCHED_SHARE ?= 0.6
# Of SFT 1 before SFT 2: those of the default profile, an epoch of the pairs.
FIRST_RATE ?= 1e-3
FIRST_STEPS ?= -1
untimed = data/random_timing

$(untimed)/sample/coa.parquet: | sets
	python -m synth.sample mode=coa out=$(untimed)/sample microworld.teacher.remembers_known=1 \
	  microworld.teacher.remembers_other=1 microworld.teacher.searches_remembered=$(SEARCHED_SHARE)
$(untimed)/grade.parquet: $(untimed)/sample/coa.parquet
	python -m curate.grade 'samples=[$(untimed)/sample]' 'modes=[coa]' out=$@
$(untimed)/filter/kept.parquet: $(untimed)/grade.parquet
	python -m curate.filter graded=$< out=$(untimed)/filter
$(untimed)/assemble/coa/validation.parquet: $(untimed)/filter/kept.parquet
	python -m curate.student_set kept=$< out=$(untimed)/assemble/coa

untimed_sets = 'train.sft2.trajectories=[$(untimed)/assemble/coa,data/assemble/cot]'
# SFT 1 as in the paper: before SFT 2, with its loss, on the teacher's pairs.
$(eval $(call chain,first_sft1,sft1,pretrain,train.sft1.pairs=data/assemble/cot_a \
  train.sft1.likelihood_share=0.25 train.sft1.arguments.learning_rate=$(FIRST_RATE) \
  train.sft1.arguments.max_steps=$(FIRST_STEPS)))
$(eval $(call chain,first_sft12,sft2,first_sft1))
$(eval $(call chain,untimed_sft2,sft2,pretrain,$(untimed_sets)))
$(eval $(call chain,untimed_sft12,sft2,first_sft1,$(untimed_sets)))
$(call trained,untimed_sft2) $(call trained,untimed_sft12): $(untimed)/assemble/coa/validation.parquet
$(foreach row,first_sft1 first_sft12 untimed_sft2 untimed_sft12,$(eval $(call result,$(row),$(row),coa)))

.PHONY: mining
mining: $(sort $(RESULTS))
	python -m evaluation.table
