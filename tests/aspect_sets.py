"""An aspect set that is not shipped with Referee."""

from __future__ import annotations

#: Five aspects; two keys of the recipe's sets under other headings, and three new ones.
FIVE = """\
name: five
aspects:
- key: method
  heading: Soundness of the method
  label: Method
- key: evidence
  heading: "Evidence: experiments and proofs"
  label: Evidence
- key: acceptance
  heading: What speaks for the paper
  label: For
- key: rejection
  heading: What speaks against the paper
  label: Against
- key: suggestions
  heading: What the authors should do next
system_prompt: |-
  You review papers under 5 headings: Soundness of the method; Evidence: experiments and proofs;
  What speaks for the paper; What speaks against the paper; What the authors should do next.
merging:
- aspect: evidence
  any: [{topics: [experiments], stances: [praise, criticism]}]
- aspect: method
  any: [{topics: [soundness], stances: [praise, criticism]}]
- aspect: acceptance
  any: [{stances: [praise]}]
- aspect: rejection
  any: [{stances: [criticism]}]
- aspect: suggestions
  any: [{stances: [request]}, {parts: [limits, minor]}]
  max_items: 3
"""
