"""OpenAI's grader JSON: the complete reinforcement fine-tuning spec, and Azure's endpoint grader.

    grader = load_openai("grader.json")            # a grader of rft, for a run
    run({"grader": ..., "item": ..., "model_sample": ...})     # as POST /graders/run
    validate({"grader": ...})                                  # as POST /graders/validate

An error sets one of OpenAI's flags. OpenAI gives a reward of 0 for most of them. In rft a fault of the model gets the
grader's minimum, and a failure of the grader gives no reward:

    flag                          when                                                  status          value
    truncated_observation_error   cut at its limit before the answer                    no answer       minimum
    sample_parse_error            violates response_format, or is far too long          invalid output  minimum
    invalid_variable_error        sample.output_tools[...] without such a call          no answer       minimum
                                  sample.output_json... without such a value            invalid output  minimum
                                  item... without such a column; sample.output_audio    grader error    none
    other_error                   `like` with a reference that the completion emptied   no answer       minimum
                                  an empty reference; an endpoint's failure; a defect   grader error    none
    formula_parse_error           calculate_output has no finite value                  grader error    none
    python_grader_runtime_error   grade raised, or its result is not a finite number    grader error    none
    python_grader_server_error    no sandbox, or the program ended without a result     grader error    none
    model_grader_server_error     the judge cannot be reached after all retries         grader error    none
    model_grader_refusal_error    the judge refused                                     grader error    none
    model_grader_parse_error      the judge's reply has no verdict                      grader error    none
    unresponsive_reward_error     a python grader or an endpoint missed its deadline    timeout         none

The minimum is the lower end of a score_model's range, otherwise 0. A multi grader uses its graders' minimums. It has a
value if all of them have one; its status is that of the first grader that could not read the completion.
"""

from rft.grading.foreign.openai_spec.api import arun, run, validate
from rft.grading.foreign.openai_spec.faults import SpecError
from rft.grading.foreign.openai_spec.grader import OpenAIGrader, load_openai
from rft.grading.foreign.openai_spec.outcome import Services

__all__ = ["OpenAIGrader", "Services", "SpecError", "arun", "load_openai", "run", "validate"]
